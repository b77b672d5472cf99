"""The sets of images of a rewrite run: those that choose among rewrites, and those that are reported."""

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from editable.data import ImageDataModule, RewriteRule
from editable.errors import UserError

__all__ = ["halves", "manipulated_images", "original_images", "validation_images"]


def manipulated_images(rules: list[RewriteRule], data: ImageDataModule) -> Dataset:
    """Return the exemplars of rules with the new concept, and their true labels."""
    return _dataset(rules, data, [rule.manipulated for rule in rules])


def original_images(rules: list[RewriteRule], data: ImageDataModule) -> Dataset:
    """Return the same exemplars without the new concept, in the same order."""
    return _dataset(rules, data, [rule.originals for rule in rules])


def validation_images(data: ImageDataModule, which: str) -> Dataset:
    """Return the data module's validation images, for what must not be done with images that are reported.

    Args:
        data: The data module.
        which: What must not be done with them, and what to set, for the message: ``which must not choose: set …``.

    Raises:
        UserError: If there are none, or the data are tested on them, for want of test images.
    """
    data.setup("validate")
    assert data.val_dataset is not None, "setup raises where there are no validation images"
    if data.tests_on_validation:
        raise UserError(f"the data are tested on their validation images, {which}")
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
