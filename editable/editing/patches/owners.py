"""Whose each row of an editor's own layer is, while edits are made one after the other."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from editable.editing.patches.coding import staying_rows
from editable.models.added.row_layer import row_groups

__all__ = ["first_owners", "next_owners", "rows_of"]

LOOKED_AT = 16
"""Values at the beginning of a row by which rows are told apart."""


def first_owners(params: Mapping[str, Tensor]) -> Tensor:
    """Return −1 for each row that is there before the first edit, int64 [R]; nothing where there are no rows.

    Args:
        params: Parameters that edits may change, by name.
    """
    number = next((len(params[names[0]]) for names in row_groups(params).values()), 0)
    return torch.full((number,), -1)


def next_owners(owners: Tensor, before: Mapping[str, Tensor], after: Mapping[str, Tensor], edit: int) -> Tensor:
    """Return whose the rows are after one more edit, int64 [S].

    Args:
        owners: Before it, int64 [R].
        before: Parameters before it.
        after: Parameters after it, in which rows that stay come first.
        edit: Its number, which its own rows get.
    """
    for names in row_groups(after).values():
        some = [{name: _head(params[name]) for name in names} for params in (before, after)]
        staying = owners[staying_rows(*some)]
        return torch.cat([staying, torch.full((len(after[names[0]]) - len(staying),), edit)])
    return owners


def rows_of(edits: Collection[int], owners: Tensor, params: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Return which of the rows that all edits have added are those of some, by the layer's name.

    Args:
        edits: Their numbers.
        owners: After the last edit, int64 [R].
        params: Parameters after it.
    """
    added = [owner for owner in owners.tolist() if owner >= 0]
    layer = next(iter(row_groups(params)), None)
    return {} if layer is None else {layer: [row for row, owner in enumerate(added) if owner in edits]}


def _head(rows: Tensor) -> Tensor:
    return rows.detach().cpu().flatten(1)[:, :LOOKED_AT] if rows.ndim > 1 else rows.detach().cpu()
