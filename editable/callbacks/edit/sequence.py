"""Edits that are made one after the other, each on top of the last, in place of all at once."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from editable.editing import BaseEditor, ForwardFunction
from editable.editing.editors.objective import is_predicted
from editable.editing.patches.owners import first_owners, next_owners
from editable.models import Features

__all__ = ["EditSequence", "edit_one_by_one"]


class EditSequence(NamedTuple):
    """What n edits have come to.

    Attributes:
        params: Parameters after the last.
        made: Whether each succeeded when it was made, bool [n]; one that did not left all as it was.
        num_steps: Updates of all together.
        owners: Which edit each row of the editor's own layer is of, see :func:`first_owners`.
    """

    params: dict[str, Tensor]
    made: Tensor
    num_steps: int
    owners: Tensor


def edit_one_by_one(
    editor: BaseEditor,
    forward: ForwardFunction,
    params: Mapping[str, Tensor],
    edits: Sequence[tuple[Features, Tensor]],
) -> EditSequence:
    """Make edits in their order.

    Args:
        editor: Makes them, at its place.
        forward: From features and parameters to logits.
        params: The unedited parameters.
        edits: Of each edit, the features of its image and its views, each [1 + v, ...], and their labels.
    """
    current, state, owners = dict(params), dict[str, Tensor](), first_owners(params)
    made, num_steps = [], 0
    for number, (features, labels) in enumerate(edits):
        result, further = editor.extend(forward, current, features, labels, state)
        with torch.no_grad():
            succeeded = bool(is_predicted(forward(features, result.params), labels).all())
        made.append(succeeded)
        if succeeded:
            owners = next_owners(owners, current, result.params, number)
            current, state = result.params, further
            num_steps += int(result.num_steps)
    return EditSequence(current, torch.tensor(made), num_steps, owners)
