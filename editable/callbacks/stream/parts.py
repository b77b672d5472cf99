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
        copies: Those in none of these parts, since they are the same as an image that is corrected or chooses.
    """

    edits: Edits
    rest: Tensor
    certifying: Tensor
    judged: Tensor
    copies: Tensor


def divide(
    base: BasePredictions,
    stream: EditStream,
    num_edits: int | None,
    halves: Halves,
    seed: int,
    certify: bool,
    held_out: int = 0,
    first: Tensor | None = None,
) -> Parts:
    """Divide test images into halves, and choose from the first of them what is corrected.

    By corrections that are held out of those that another stream reports, constants can be chosen: neither images that
    it corrects nor images that judge it have a part in them.

    Args:
        base: Labels and predictions of all of them.
        stream: Which image gets which label.
        num_edits: Largest number of corrections; all that there are by default.
        halves: ``even`` positions are corrected and odd ones judge, or a ``random`` half by seed.
        seed: Of the halves and of the order.
        certify: Whether half of the images that are not corrected certify, and the others judge.
        held_out: Number of corrections that another stream reports, the first ones in the order. Those behind them are
            made; of the images of the same half that neither corrects, one half judges, and the other is the rest.
        first: For each image the position of the first one that is the same, int64 [N]: what is the same as an image
            that is corrected or chooses does not judge. By default, all are different.

    Raises:
        UserError: If there is nothing to correct or nothing to judge by, or fewer corrections than are asked for.
    """
    number = len(base.labels)
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed))
    if halves == "even":
        order = torch.cat([torch.arange(0, number, 2), torch.arange(1, number, 2)])
    own, others = order[: (number + 1) // 2].sort().values, order[(number + 1) // 2 :].sort().values
    edits = _choose(base, stream, own, num_edits, seed, held_out)
    first = torch.arange(number) if first is None else first
    all_edits, considered = edits.indices, torch.cat([own, others])
    rest = _without(own, edits.indices, first)
    others = _without(others, torch.cat([edits.indices, rest]), first)
    if held_out:
        edits, considered = Edits(edits.indices[held_out:], edits.labels[held_out:]), own
        mixed = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed + 2))]
        rest, others = (part.sort().values for part in mixed.tensor_split(2))
        others = _without(others, rest, first)
    certifying = others[:0]
    if certify:
        mixed = others[torch.randperm(len(others), generator=torch.Generator().manual_seed(seed + 1))]
        certifying, others = (part.sort().values for part in mixed.tensor_split(2))
        others = _without(others, certifying, first)
    if not len(others):
        raise UserError(f"of {number} test images none is left to judge corrections by: test on more images (data)")
    copies = considered[~torch.isin(considered, torch.cat([all_edits, rest, certifying, others]))]
    return Parts(edits, rest, certifying, others, copies)


def _without(images: Tensor, others: Tensor, first: Tensor) -> Tensor:
    """Return positions of images of which none is the same as one of others."""
    return images[~torch.isin(first[images], first[others])]


def _choose(
    base: BasePredictions, stream: EditStream, own: Tensor, num_edits: int | None, seed: int, held_out: int
) -> Edits:
    """Return edits of images of the first half, in an order by seed; a table's are where and in the order it says.

    Those that another stream reports come first.
    """
    wanted = None if num_edits is None else num_edits + held_out
    labels, predictions = base.labels[own], base.predictions[own]
    if stream.anywhere:
        chosen = stream(base.labels, base.predictions, base.num_classes, wanted)
    else:
        chosen = stream(labels, predictions, base.num_classes, None)
        if wanted is not None and wanted > len(chosen.indices):
            chosen = stream(labels, predictions, base.num_classes, wanted)
    number = len(chosen.indices)
    where = "" if stream.anywhere else f", of the {len(own)} test images that may be corrected"
    held = f" behind the {held_out} of stream.held_out" if held_out else ""
    if wanted is not None and wanted > number:
        raise UserError(
            f"stream.num_edits is {num_edits}{held}, but {number} corrections are there to be made{where}: ask for "
            f"{'fewer' if held else 'no more'}"
        )
    if held_out >= number:
        raise UserError(f"stream.held_out is {held_out}, but {number} corrections are there to be made: hold out fewer")
    if stream.anywhere:
        return chosen
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed))[:wanted]
    return Edits(own[chosen.indices[order]], chosen.labels[order])
