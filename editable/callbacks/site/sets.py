"""The sets of images of a rewrite run: those that choose among rewrites, those that are reported, second moments."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from editable.callbacks.site.site import RuleImages
from editable.data import ImageDataModule, RewriteRule
from editable.errors import UserError

__all__ = [
    "check_rules",
    "halves",
    "manipulated_images",
    "moment_dataset",
    "original_images",
    "rule_images",
    "validation_images",
]


def check_rules(rules: Iterable[RewriteRule | None], data: ImageDataModule) -> None:
    """Raise a :class:`UserError` where the exemplars of a rule are unlike a data module's classes or images."""
    for rule in filter(None, rules):
        rule.labels(data.classes)
        size, expected = list(rule.originals.shape[1:]), list(data.image_shape)
        if size != expected:
            raise UserError(
                f"the rule's exemplars are {size} (channels, height, width), the data module's images {expected}: "
                "give the rule the data module's image_size and resize_size"
            )


def rule_images(rule: RewriteRule, data: ImageDataModule) -> RuleImages:
    """Return a rule's exemplars as the network takes them."""
    originals, manipulated, textures = map(data.normalisation, (rule.originals, rule.manipulated, rule.textures))
    return RuleImages(originals, manipulated, textures, rule.masks, rule.labels(data.classes))


def manipulated_images(rules: list[RewriteRule], data: ImageDataModule) -> Dataset:
    """Return the exemplars of rules with the new concept, and their true labels."""
    return _dataset(rules, data, [rule.manipulated for rule in rules])


def original_images(rules: list[RewriteRule], data: ImageDataModule) -> Dataset:
    """Return the same exemplars without the new concept, in the same order."""
    return _dataset(rules, data, [rule.originals for rule in rules])


def moment_dataset(
    split: Literal["train", "val", "test"], data: ImageDataModule, choosing: Dataset | None = None
) -> Dataset:
    """Return the images for second moments.

    Args:
        split: Unaugmented ``train`` images, ``val`` images, or ``test`` images.
        data: The data module.
        choosing: Some of the test images, which are taken in place of all of them.
    """
    if split == "train":
        return data.unaugmented_training_images()
    if split == "val":
        return validation_images(data)
    return data.test_dataset if choosing is None else choosing


def validation_images(data: ImageDataModule) -> Dataset:
    """Return the data module's validation images."""
    data.setup("validate")
    assert data.val_dataset is not None, "setup raises where there are no validation images"
    return data.val_dataset


def halves(dataset: Dataset, seed: int) -> tuple[Subset, Subset]:
    """Divide a data set at random."""
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))  # type: ignore[arg-type]
    first, second = order.tensor_split(2)
    return Subset(dataset, first.sort().values.tolist()), Subset(dataset, second.sort().values.tolist())


def _dataset(rules: list[RewriteRule], data: ImageDataModule, images: list[Tensor]) -> Dataset:
    parts = [
        TensorDataset(data.normalisation(some), rule.labels(data.classes))
        for rule, some in zip(rules, images, strict=True)
    ]
    return ConcatDataset(parts)
