"""A strictly convex quadratic program over the nonnegative numbers, by block principal pivoting."""

import torch
from torch import Tensor

__all__ = ["solve_nonnegative"]

MOST_BLOCK_STEPS = 3  # exchanges of all that are on the wrong side, without fewer of them, before single ones


def solve_nonnegative(matrix: Tensor, vector: Tensor, start: Tensor | None = None) -> Tensor:
    r"""Solve :math:`\min_{x ≥ 0} \frac12 x^\top K x - g^\top x`, with K positive definite.

    The optimum has x ≥ 0, y = Kx − g ≥ 0, and of each pair one is zero. Block principal pivoting guesses which of them
    are not, solves the linear system of these, and exchanges all pairs of which one is negative; where this stops
    leading to fewer of them, only the last of them, which is known to end. (Júdice and Pires, 1994; Kim and Park,
    2011.)

    Args:
        matrix: K, float64 [n, n], symmetric and positive definite.
        vector: g, float64 [n].
        start: Which x are positive at first, bool [n], such as those of a similar problem; none by default.

    Returns:
        x, float64 [n].
    """
    positive = torch.zeros(len(vector), dtype=torch.bool, device=vector.device) if start is None else start.clone()
    tolerance = 1e-12 * float(vector.abs().max()) if len(vector) else 0.0
    fewest, patience = len(vector) + 1, MOST_BLOCK_STEPS
    while True:
        x = torch.zeros_like(vector)
        chosen = positive.nonzero().flatten()
        if len(chosen):
            factor = torch.linalg.cholesky(matrix[chosen][:, chosen])
            x[chosen] = torch.cholesky_solve(vector[chosen, None], factor).flatten()
        y = matrix[:, chosen] @ x[chosen] - vector
        wrong = torch.where(positive, x < 0, y < -tolerance)
        number = int(wrong.sum())
        if not number:
            return x
        if number < fewest:
            fewest, patience = number, MOST_BLOCK_STEPS
        elif patience:
            patience -= 1
        else:
            last = wrong.nonzero().flatten()[-1]
            wrong = torch.zeros_like(wrong)
            wrong[last] = True
        positive ^= wrong
