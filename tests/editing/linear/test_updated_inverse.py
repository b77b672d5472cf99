"""The updated inverse against the inverse of the matrix that is there."""

import pytest
import torch
from torch import Tensor

from editable.editing.linear.updated_inverse import ROOM, UpdatedInverse, inverse_of


def kernel(number: int, seed: int = 0) -> Tensor:
    points = torch.randn(number, number + 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return points @ points.T


@pytest.mark.parametrize("number", [1, 3, ROOM + 10])
def test_rows_come(number: int):
    matrix = kernel(6 + number)
    updated = UpdatedInverse(torch.linalg.inv(matrix[:6, :6]))
    assert updated.append(matrix[:6, 6:], matrix[6:, 6:])
    torch.testing.assert_close(updated.value, torch.linalg.inv(matrix), rtol=1e-8, atol=1e-10)


def test_the_first_rows_come():
    matrix = kernel(4)
    updated = UpdatedInverse(torch.zeros(0, 0, dtype=torch.float64))
    assert updated.append(matrix[:0], matrix)
    torch.testing.assert_close(updated.value, torch.linalg.inv(matrix))


@pytest.mark.parametrize("gone", [[0], [7], [0, 3, 7], [6, 7], [0, 1, 2, 3, 4, 5, 6, 7]])
def test_rows_go(gone: list[int]):
    matrix = kernel(8)
    updated = UpdatedInverse(torch.linalg.inv(matrix))
    order = updated.remove(torch.zeros(8, dtype=torch.bool).index_fill(0, torch.tensor(gone), True))
    assert sorted(order.tolist()) == [row for row in range(8) if row not in gone]
    torch.testing.assert_close(updated.value, torch.linalg.inv(matrix[order][:, order]), rtol=1e-8, atol=1e-10)


def test_many_changes():
    matrix, rows = kernel(60), torch.arange(10)
    updated = UpdatedInverse(torch.linalg.inv(matrix[:10, :10]))
    for first in range(10, 60, 5):
        new = torch.arange(first, first + 5)
        assert updated.append(matrix[rows][:, new], matrix[new][:, new])
        rows = torch.cat([rows, new])
        rows = rows[updated.remove((rows % 7 == first % 7) | (rows == first))]
    torch.testing.assert_close(updated.value, torch.linalg.inv(matrix[rows][:, rows]), rtol=1e-7, atol=1e-9)


def test_what_it_starts_from_stays():
    matrix = kernel(5)
    start = torch.linalg.inv(matrix[:4, :4])
    before = start.clone()
    UpdatedInverse(start).append(matrix[:4, 4:], matrix[4:, 4:])
    UpdatedInverse(start).remove(torch.tensor([True, False, False, False]))
    assert start.equal(before)


def test_singular_matrices_are_left_out():
    matrix = kernel(5)
    updated = UpdatedInverse(torch.linalg.inv(matrix))
    before = updated.value.clone()
    assert not updated.append(matrix[:, :1], matrix[:1, :1]), "the same row twice"
    assert updated.value.equal(before)
    twice = matrix[[0, 0, 1]][:, [0, 0, 1]]
    assert inverse_of(twice) is None
    assert inverse_of(-matrix) is None
    torch.testing.assert_close(inverse_of(matrix), torch.linalg.inv(matrix))
