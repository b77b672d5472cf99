"""The inverse of a symmetric matrix that grows and shrinks by rows and columns, in O(n²) for each of them."""

import torch
from torch import Tensor

__all__ = ["inverse_of", "with_border", "without"]

LEAST_PIVOT = 1e-12
"""Of a Cholesky factor, squared and relative to the diagonal; what is below it is rounding."""


def inverse_of(matrix: Tensor) -> Tensor | None:
    """Return the inverse of a symmetric matrix [n, n], or none where it is not positive definite to rounding."""
    factor, failure = torch.linalg.cholesky_ex(matrix)
    if failure or bool((factor.diagonal().square() < LEAST_PIVOT * matrix.diagonal()).any()):
        return None
    return torch.cholesky_inverse(factor)


def with_border(inverse: Tensor, border: Tensor, corner: Tensor) -> Tensor | None:
    r"""Return the inverse of a matrix that has got k further rows and columns.

    .. math:: \begin{pmatrix} K & b \\ b^\top & c \end{pmatrix}^{-1} =
        \begin{pmatrix} B + v s v^\top & -v s \\ -s v^\top & s \end{pmatrix}, \quad
        B = K^{-1}, \quad v = B b, \quad s = (c - b^\top v)^{-1}

    Args:
        inverse: B, [n, n].
        border: b, [n, k].
        corner: c, [k, k].

    Returns:
        [n + k, n + k], or none where it is not positive definite to rounding.
    """
    n, k = border.shape
    reach = inverse @ border
    schur = corner - border.T @ reach
    if bool((schur.diagonal() < LEAST_PIVOT * corner.diagonal()).any()):
        return None
    own = inverse_of((schur + schur.T) / 2)
    if own is None:
        return None
    across = reach @ own
    grown = inverse.new_empty(n + k, n + k)
    grown[:n, :n] = inverse
    grown[:n, :n].addmm_(across, reach.T)
    grown[:n, n:], grown[n:, :n], grown[n:, n:] = -across, -across.T, own
    return grown


def without(inverse: Tensor, gone: Tensor) -> Tensor:
    r"""Return the inverse of a matrix that has lost some of its rows and columns.

    With B, the inverse so far, in blocks of those that stay and those that go, it is
    :math:`B_{ss} - B_{sg} B_{gg}^{-1} B_{gs}`.

    Args:
        inverse: B, [n, n].
        gone: Which rows and columns go, bool [n].
    """
    stays, goes = (~gone).nonzero().flatten(), gone.nonzero().flatten()
    across = inverse[stays][:, goes]
    own = inverse[goes][:, goes]
    return inverse[stays][:, stays].addmm_(across, torch.linalg.solve(own, across.T), alpha=-1)
