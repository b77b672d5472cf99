"""Choosing by seed which training images are held out, and which images are used when only some are wanted."""

from array import array
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from editable.errors import UserError

__all__ = ["hold_out", "limit", "some_of"]

NAMES = {"train": "training", "test": "test"}


def hold_out(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split positions into a kept and a held-out part, class by class.

    Of a class with n images, round(fraction · n) are held out, but at least one and at most n − 1: a class of two or
    more images is in both parts, a single image is kept. (scikit-learn's stratified split refuses such small
    classes.)

    Args:
        labels: class indices, int64 ``[N]``.
        fraction: the part to hold out, 0 ≤ fraction < 1; 0 holds out nothing.
        seed: seed of the choice.

    Returns:
        Positions kept and positions held out, each int64 and ascending.
    """
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    if fraction > 0:
        generator = torch.Generator().manual_seed(seed)
        counts = labels.unique(return_counts=True)[1].tolist()
        for members in labels.argsort(stable=True).split(counts):
            count = min(len(members) - 1, max(1, round(fraction * len(members))))
            held_out[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()


def limit(positions: Tensor, count: int | None, seed: int, split: Literal["train", "test"] = "train") -> Tensor:
    """Keep ``count`` of the positions, chosen at random by seed.

    A smaller count with the same seed keeps a part of what a larger one keeps.

    Args:
        positions: int64 ``[N]``.
        count: how many to keep, 1 ≤ count ≤ N; ``None`` keeps all.
        seed: seed of the choice.
        split: ``train`` or ``test``: which images they are, for the error.

    Returns:
        The positions kept, in their old order.

    Raises:
        UserError: more are asked for than there are.
    """
    if count is None:
        return positions
    if count > len(positions):
        raise UserError(f"{split}_limit is {count}, but there are only {len(positions)} {NAMES[split]} images.")
    chosen = torch.randperm(len(positions), generator=torch.Generator().manual_seed(seed))[:count]
    return positions[chosen.sort().values]


def some_of(images: Dataset, positions: Tensor) -> Subset:
    """Return some images of a data set.

    Args:
        images: The data set.
        positions: int64 ``[N]``.

    Returns:
        Them, in this order; the positions lie in one array, for a list of a million numbers is a million objects, which
        every worker process would come to have a copy of.
    """
    return Subset(images, array("q", positions.numpy().tobytes()))
