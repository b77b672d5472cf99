"""Sets of images that an edited classifier is judged by: random, confusing and mislabelled ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from editable.errors import UserError, require_at_least, require_seed, require_within

__all__ = ["ImageSet", "confusing_images", "is_one_of", "mislabelled_images", "random_images"]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Some of N images of a data set, and what they are to be taken for.

    Attributes:
        chosen: Whether each image is in the set, bool [N].
        labels: The reference label of each image, int64 [N]; of those that are not in the set, their own.
    """

    chosen: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return int(self.chosen.sum())


def is_one_of(labels: Tensor, targets: Sequence[int]) -> Tensor:
    """Return whether each label is one of some others, bool [N].

    Raises:
        UserError: If all are, or none is: figures of target classes and of others would be of one kind alone.
    """
    same = torch.isin(labels, torch.tensor(list(targets), dtype=labels.dtype))
    if same.all() or not same.any():
        which = "all" if same.all() else "none"
        raise UserError(
            f"{which} of the {len(labels)} test images are of the target classes: an edit is judged by images of "
            "target classes beside images of others"
        )
    return same


def random_images(labels: Tensor, count: int, seed: int) -> ImageSet:
    """Choose images of all classes at random.

    Args:
        labels: True labels, int64 [N].
        count: Largest number of images; fewer with the same seed are a part of more.
        seed: Of the draw.

    Raises:
        UserError: If the number is below 1, or the seed negative.
    """
    require_at_least(1, count=count)
    require_seed(seed=seed)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:count]] = True
    return ImageSet(chosen, labels)


def confusing_images(labels: Tensor, activations: Tensor, share: float) -> ImageSet:
    """Choose the images in which a concept is seen most (Elango 2021, section 2.2.2).

    Args:
        labels: True labels, int64 [N].
        activations: How strongly the concept is seen in each image, [N]; of equal ones the first are chosen.
        share: Part of the images to choose, above 0 and up to 1; rounded up to whole images.

    Raises:
        UserError: If the share is out of range, or activations do not fit or are not finite.
    """
    require_within("(0, 1]", share=share)
    if activations.shape != labels.shape or not activations.isfinite().all():
        raise UserError(
            f"activations must be finite, one for each of {len(labels)} images, got shape {list(activations.shape)}"
        )
    ranking = activations.argsort(descending=True, stable=True)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    count = ceil(round(share * len(labels), 6))  # 0.01 · 700 is a little more than 7
    chosen[ranking[:count].cpu()] = True
    return ImageSet(chosen, labels)


def mislabelled_images(labels: Tensor, targets: Sequence[int], noise: int) -> ImageSet:
    """Choose all images of the target classes and call them by another class, beside that class's own images.

    The class's own images are what a ROC curve needs to compare with: it tells images of the target classes from them.

    Args:
        labels: True labels, int64 [N].
        targets: Labels of the target classes.
        noise: The label that their images get.

    Raises:
        UserError: If the label is that of a target class.
    """
    if noise in targets:
        raise UserError("the noise class is one of the target classes: their images would keep a true label")
    moved = torch.isin(labels, torch.tensor(list(targets), dtype=labels.dtype))
    return ImageSet(moved | (labels == noise), torch.where(moved, noise, labels))
