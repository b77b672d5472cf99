"""The inverse of a symmetric matrix that grows and shrinks by rows and columns, in O(n²) for each of them."""

import torch
from torch import Tensor

__all__ = ["UpdatedInverse", "inverse_of"]

LEAST_PIVOT = 1e-12
"""Of a Cholesky factor, squared and relative to the diagonal; what is below it is rounding."""

ROOM = 64  # rows and columns that may come before a larger block of memory is needed


class UpdatedInverse:
    """The inverse B of a positive definite matrix K, kept up as K changes.

    The tensor that it starts from is never written to: it is copied at the first change.

    Args:
        inverse: B, [n, n].
    """

    def __init__(self, inverse: Tensor) -> None:
        self._memory, self._size, self._is_own = inverse, len(inverse), False

    @property
    def value(self) -> Tensor:
        """B, [n, n], which the next change writes to."""
        return self._memory[: self._size, : self._size]

    def append(self, border: Tensor, corner: Tensor) -> bool:
        r"""Give K further rows and columns.

        .. math:: \begin{pmatrix} K & b \\ b^\top & c \end{pmatrix}^{-1} =
            \begin{pmatrix} B + v s v^\top & -v s \\ -s v^\top & s \end{pmatrix}, \quad
            v = B b, \quad s = (c - b^\top v)^{-1}

        Args:
            border: b, [n, k].
            corner: c, [k, k].

        Returns:
            Whether it is positive definite, by more than rounding; otherwise nothing has changed.
        """
        n, k = border.shape
        reach = self.value @ border
        pivots = corner - border.T @ reach
        if bool((pivots.diagonal() < LEAST_PIVOT * corner.diagonal()).any()):
            return False
        own = inverse_of((pivots + pivots.T) / 2)
        if own is None:
            return False
        across = reach @ own
        self._make_room(n + k)
        self.value.addmm_(across, reach.T)
        self._size = n + k
        self.value[:n, n:], self.value[n:, :n], self.value[n:, n:] = -across, -across.T, own
        return True

    def remove(self, gone: Tensor) -> Tensor:
        r"""Take rows and columns from K; the last ones move into their places.

        With B in blocks of those that stay and those that go, it becomes
        :math:`B_{ss} - B_{sg} B_{gg}^{-1} B_{gs}`.

        Args:
            gone: Which rows and columns go, bool [n].

        Returns:
            The rows and columns that stay, in their new order, int64.
        """
        goes, size = gone.nonzero().flatten(), int((~gone).sum())
        holes = goes[goes < size]
        last = size + (~gone[size:]).nonzero().flatten()
        order = torch.arange(size, device=gone.device)
        order[holes] = last
        across, own = self.value[:, goes][order], self.value[goes][:, goes]
        self._make_room(self._size)
        self.value[holes] = self.value[last]
        self.value[:, holes] = self.value[:, last]
        self._size = size
        self.value.addmm_(across, torch.linalg.solve(own, across.T), alpha=-1)
        return order

    def _make_room(self, size: int) -> None:
        """Have memory of one's own for as many rows and columns."""
        if not self._is_own or size > len(self._memory):
            memory = self._memory.new_empty(size + ROOM, size + ROOM)
            memory[: self._size, : self._size] = self.value
            self._memory, self._is_own = memory, True


def inverse_of(matrix: Tensor) -> Tensor | None:
    """Return the inverse of a symmetric matrix [n, n], or none where it is not positive definite to rounding."""
    factor, failure = torch.linalg.cholesky_ex(matrix)
    if failure or bool((factor.diagonal().square() < LEAST_PIVOT * matrix.diagonal()).any()):
        return None
    return torch.cholesky_inverse(factor)
