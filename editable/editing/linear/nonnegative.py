"""A convex quadratic program over the nonnegative numbers, by block principal pivoting."""

import torch
from torch import Tensor

from editable.errors import UserError

__all__ = ["solve_nonnegative"]

MOST_BLOCK_STEPS = 3  # exchanges of all that are on the wrong side, without fewer of them, before single ones
FIRST_RIDGE = 1e-14
"""What is added first, relative to K's mean diagonal entry, where rounding keeps the method from an end."""


def solve_nonnegative(matrix: Tensor, vector: Tensor, start: Tensor | None = None) -> Tensor:
    r"""Solve :math:`\min_{x ≥ 0} \frac12 x^\top K x - g^\top x`, with K positive definite.

    The optimum has x ≥ 0, y = Kx − g ≥ 0, and of each pair one is zero. Block principal pivoting guesses which of them
    are not, solves the linear system of these, and exchanges all pairs of which one is negative; where this stops
    leading to fewer of them, only the last of them, which is known to end. (Júdice and Pires, 1994; Kim and Park,
    2011.)

    Where K is singular to rounding, a system may have no solution, or single exchanges come back to where they were:
    then something is added to K's diagonal, ten times as much each time, from 10⁻¹⁴ of its mean on.

    Args:
        matrix: K, float64 [n, n], symmetric and positive definite, or semidefinite by rounding.
        vector: g, float64 [n].
        start: Which x are positive at first, bool [n], such as those of a similar problem; none by default.

    Returns:
        x, float64 [n].

    Raises:
        UserError: If a number is NaN or infinite.
    """
    if not len(vector):
        return torch.zeros_like(vector)
    if not bool(matrix.isfinite().all() & vector.isfinite().all()):
        raise UserError("what is asked of a layer leads to numbers that are NaN or infinite: ask for a smaller margin")
    positive = torch.zeros(len(vector), dtype=torch.bool, device=vector.device) if start is None else start.clone()
    ridge, mean = 0.0, float(matrix.diagonal().mean()) or 1.0
    while True:
        x = _pivot(matrix, vector, positive)
        if x is not None:
            return x
        larger = max(10 * ridge, FIRST_RIDGE * mean)
        matrix = matrix + (larger - ridge) * torch.eye(len(vector), dtype=matrix.dtype, device=matrix.device)
        ridge = larger


def _pivot(matrix: Tensor, vector: Tensor, positive: Tensor) -> Tensor | None:
    """Return x, or none where rounding keeps from it; `positive` is left where it has come to."""
    rounding = len(vector) * torch.finfo(vector.dtype).eps
    largest, size = matrix.abs().max(), vector.abs().max()
    fewest, patience = len(vector) + 1, MOST_BLOCK_STEPS
    seen: set[bytes] = set()
    while True:
        x = torch.zeros_like(vector)
        chosen = positive.nonzero().flatten()
        if len(chosen):
            factor, failure = torch.linalg.cholesky_ex(matrix[chosen][:, chosen])
            if failure:
                return None
            x[chosen] = torch.cholesky_solve(vector[chosen, None], factor).flatten()
        y = matrix @ x - vector
        tolerance = rounding * (largest * x.abs().sum() + size)
        wrong = torch.where(positive, x < 0, y < -tolerance)
        number = int(wrong.sum())
        if not number:
            return x
        if number < fewest:
            fewest, patience = number, MOST_BLOCK_STEPS
            seen.clear()
        elif patience:
            patience -= 1
        else:
            guess = bytes(positive.tolist())
            if guess in seen:
                return None
            seen.add(guess)
            last = wrong.nonzero().flatten()[-1]
            wrong = torch.zeros_like(wrong)
            wrong[last] = True
        positive ^= wrong
