"""Which test images are corrected, in which order, and which others certify and judge."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from editable.data import Edits, EditStream
from editable.editing import BasePredictions
from editable.errors import UserError

__all__ = ["Halves", "Parts", "divide"]

Halves = Literal["random", "even"]


class Parts(NamedTuple):
    """Disjoint parts of the test images; all int64 positions.

    Attributes:
        edits: The corrected images with the labels asked for, in the order of correction.
        rest: Those of their half that are not corrected.
        certifying: Those by which it is decided whether a correction is kept; none without a budget.
        judged: Those that neither are corrected nor choose anything.
    """

    edits: Edits
    rest: Tensor
    certifying: Tensor
    judged: Tensor


def divide(
    base: BasePredictions, stream: EditStream, num_edits: int | None, halves: Halves, seed: int, certify: bool
) -> Parts:
    """Divide test images into halves, and choose from the first of them what is corrected.

    Args:
        base: Labels and predictions of all of them.
        stream: Which image gets which label.
        num_edits: Largest number of corrections; all that there are by default.
        halves: ``even`` positions are corrected and odd ones judge, or a ``random`` half by seed.
        seed: Of the halves and of the order.
        certify: Whether half of the images that are not corrected certify, and the others judge.

    Raises:
        UserError: If there is nothing to correct or nothing to judge by, or fewer corrections than are asked for.
    """
    number = len(base.labels)
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed))
    if halves == "even":
        order = torch.cat([torch.arange(0, number, 2), torch.arange(1, number, 2)])
    own, others = order[: (number + 1) // 2].sort().values, order[(number + 1) // 2 :].sort().values
    edits = _choose(base, stream, own, num_edits, seed)
    corrected = torch.zeros(number, dtype=torch.bool)
    corrected[edits.indices] = True
    others = others[~corrected[others]]
    certifying = others[:0]
    if certify:
        mixed = others[torch.randperm(len(others), generator=torch.Generator().manual_seed(seed + 1))]
        certifying, others = (part.sort().values for part in mixed.tensor_split(2))
    if not len(others):
        raise UserError(f"of {number} test images none is left to judge corrections by: test on more images (data)")
    return Parts(edits, own[~corrected[own]], certifying, others)


def _choose(base: BasePredictions, stream: EditStream, own: Tensor, num_edits: int | None, seed: int) -> Edits:
    """Return edits of images of the first half, in an order by seed; a table's are where and in the order it says."""
    if stream.anywhere:
        chosen = stream(base.labels, base.predictions, base.num_classes, num_edits)
        if num_edits is not None and num_edits > len(chosen.indices):
            raise UserError(
                f"stream.num_edits is {num_edits}, but {len(chosen.indices)} corrections are there to be made: ask for "
                "no more"
            )
        return chosen
    labels, predictions = base.labels[own], base.predictions[own]
    chosen = stream(labels, predictions, base.num_classes, None)
    if num_edits is not None and num_edits > len(chosen.indices):
        chosen = stream(labels, predictions, base.num_classes, num_edits)
        if num_edits > len(chosen.indices):
            raise UserError(
                f"stream.num_edits is {num_edits}, but {len(chosen.indices)} corrections are there to be made, of the "
                f"{len(own)} test images that may be corrected: ask for no more"
            )
    order = torch.randperm(len(chosen.indices), generator=torch.Generator().manual_seed(seed))[:num_edits]
    return Edits(own[chosen.indices[order]], chosen.labels[order])
