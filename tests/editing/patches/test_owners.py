"""Whose the rows of a codebook are, by small tables that were made by hand."""

import torch
from torch import Tensor

from editable.editing.patches.owners import first_owners, next_owners, rows_of
from editable.models import Codebook

NONE = {"0.weight": torch.zeros(3, 2)}
"""Parameters of layers without rows."""


def book(*rows: float) -> dict[str, Tensor]:
    """A codebook's parameters with rows of these values, in keys of more values than rows are told apart by."""
    own = {name: some.detach() for name, some in Codebook(20, 2).named_parameters()}
    values = torch.tensor(rows)
    return {
        f"codebook.{name}": values.view(-1, *[1] * (some.ndim - 1)).expand(-1, *some.shape[1:]).clone()
        for name, some in own.items()
        if name in Codebook.rows
    } | NONE


def test_rows_before_the_first_edit_are_nobodys() -> None:
    owners = first_owners(book(0, 8, 9))
    assert owners.tolist() == [-1, -1, -1]
    assert owners.dtype == torch.int64
    assert first_owners(NONE).tolist() == []


def test_rows_that_stay_keep_their_owner_and_new_ones_are_the_edits() -> None:
    owners = next_owners(torch.tensor([-1, 0, 1]), book(0, 8, 9), book(0, 9, 5, 6), 2)
    assert owners.tolist() == [-1, 1, 2, 2]
    assert next_owners(owners, book(0, 9, 5, 6), book(0, 9, 5, 6), 3).tolist() == [-1, 1, 2, 2]
    assert next_owners(torch.tensor([], dtype=torch.int64), NONE, NONE, 2).tolist() == []


def test_rows_that_differ_in_one_of_their_tensors_are_others() -> None:
    after = book(0, 7, 8)
    last = f"codebook.{Codebook.rows[-1]}"
    after[last] = book(0, 7, 5)[last]
    assert next_owners(torch.tensor([-1, 0, 1]), book(0, 7, 8), after, 2).tolist() == [-1, 0, 2]


def test_rows_of_some_edits_are_counted_among_the_added_ones() -> None:
    owners = torch.tensor([-1, -1, 0, 2, 1, 2])
    assert rows_of([2], owners, book(0, 2, 3, 4, 5, 6)) == {"codebook": [1, 3]}
    assert rows_of([0, 1], owners, book(0, 2, 3, 4, 5, 6)) == {"codebook": [0, 2]}
    assert rows_of([2], owners, NONE) == {}
