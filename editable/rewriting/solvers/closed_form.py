"""Rewrites by formula: the memory of least squared error, and the least change of a memory that meets constraints."""

from typing import NamedTuple

import torch
from torch import Tensor

from editable.errors import UserError, require_not_negative
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.memory.inverse_moment import InverseMoment
from editable.rewriting.solvers.base import Progress, Solution, Solver

__all__ = ["ClosedForm", "LowRankUpdate", "closed_form_update", "least_squares_memory"]

DEPENDENT = 1e-6  # relative size of singular values below which keys from float32 features count as dependent


class LowRankUpdate(NamedTuple):
    """A change ΔW = Λ Dᵀ of a memory W [f, c].

    Attributes:
        coefficients: Λ, float64 [f, S].
        directions: D, float64 [c, S], orthonormal columns.
    """

    coefficients: Tensor
    directions: Tensor


def least_squares_memory(keys: Tensor, values: Tensor, ridge: float = 0.0) -> Tensor:
    r"""Return the memory that recalls values for keys with least squared error.

    .. math:: W = \arg\min_W \lVert V - WK\rVert^2 + \rho \lVert W\rVert^2
       = V K^+ = V K^\top (K K^\top)^{-1} \text{ for } \rho = 0

    Orthonormal keys recall their values exactly, W = Σ v kᵀ. Where K has no full row rank, W is the solution of least
    norm.

    Args:
        keys: K, one key in each column, [c, N].
        values: V, one value in each column, [f, N].
        ridge: ρ ≥ 0.

    Returns:
        W, float64 [f, c].

    Raises:
        UserError: If keys and values do not fit, or the ridge is negative.
    """
    if keys.ndim != 2 or values.ndim != 2 or keys.shape[1] != values.shape[1]:
        raise UserError(
            f"keys [c, N] and values [f, N] must have the same number of columns, got {list(keys.shape)} and "
            f"{list(values.shape)}"
        )
    require_not_negative(ridge=ridge)
    keys, values = keys.double(), values.double()
    if ridge:  # as c further keys √ρ·e_i with the value zero: K is not squared, which would cost half the digits
        keys = torch.cat([keys, ridge**0.5 * torch.eye(len(keys)).to(keys)], dim=1)
        values = torch.nn.functional.pad(values, (0, len(keys)))
    return values @ torch.linalg.pinv(keys)


def closed_form_update(matrix: Tensor, keys: Tensor, values: Tensor, inverse: InverseMoment) -> LowRankUpdate:
    r"""Return the change of a memory that recalls new values for some keys and otherwise changes least.

    .. math:: W_1 = \arg\min_W \operatorname{tr}\,(W - W_0)\, C\, (W - W_0)^\top \text{ subject to } W K_* = V_*

    C is the second moment of the keys that shall go on recalling what they do, so that the minimum is over the mean
    squared change of their values. The solution (Bau et al. 2020; Elango 2021, 2.11–2.19, generalised to S keys) is

    .. math:: W_1 = W_0 + (V_* - W_0 K_*) (K_*^\top C^{-1} K_*)^{-1} (C^{-1} K_*)^\top,

    whatever W₀ is. It is computed as Λ Dᵀ with the columns of D an orthonormal basis of those of C⁻¹K*, and hence
    Λ = (V* − W₀K*) (DᵀK*)⁻¹, which does not square the condition of the keys.

    Args:
        matrix: W₀ [f, c].
        keys: K* [c, S], S ≤ c keys in columns.
        values: V* [f, S].
        inverse: Of C, which may be scaled by any factor.

    Raises:
        UserError: If shapes do not fit, something is not finite, or the keys are linearly dependent.
    """
    _check_shapes(matrix, keys, values)
    keys, values, matrix = keys.double(), values.double(), matrix.double()
    if not (keys.isfinite().all() and values.isfinite().all() and matrix.isfinite().all()):
        raise UserError("keys, values and the memory's matrix must be finite: some entries are NaN or infinite")
    lengths = _check_independent(keys)
    directions = torch.linalg.qr(inverse.solve(keys)).Q
    coefficients = torch.linalg.solve(directions.T @ (keys / lengths), (values - matrix @ keys) / lengths, left=False)
    return LowRankUpdate(coefficients, directions)


class ClosedForm(Solver):
    """The exact rewrite of the layer alone, for all rules at once; see :func:`closed_form_update`.

    It looks at the layer without BatchNorm and activation. The rank of the change is the number of rules S, whatever
    ``problem.rank`` is: with C⁻¹K* among the directions, further ones are of no use to the optimum.
    """

    def _solve(self, problem: RewriteProblem, progress: Progress | None) -> Solution:
        update = closed_form_update(problem.matrix, problem.keys, problem.values, problem.inverse)
        matrix = problem.matrix + update.coefficients @ update.directions.T
        weight = problem.memory.weight(matrix).to(problem.weight.dtype)
        return Solution({problem.block.weight_name: weight}, [])


def _check_shapes(matrix: Tensor, keys: Tensor, values: Tensor) -> None:
    if keys.ndim != 2 or matrix.ndim != 2 or values.shape != (matrix.shape[0], keys.shape[1]):
        raise UserError(
            "a memory [f, c] is rewritten with keys [c, S] and values [f, S], got "
            f"{list(matrix.shape)}, {list(keys.shape)} and {list(values.shape)}"
        )
    if keys.shape[0] != matrix.shape[1] or keys.shape[1] == 0:
        raise UserError(
            f"a memory {list(matrix.shape)} needs at least one key of {matrix.shape[1]} entries, got {list(keys.shape)}"
        )


def _check_independent(keys: Tensor) -> Tensor:
    """Return the keys' lengths [S], by which they are scaled: how long a key is does not make it less independent."""
    number = keys.shape[1]
    lengths = keys.norm(dim=0)
    if (lengths == 0).any():
        raise UserError(f"key {int(lengths.argmin())} of {number} is zero: no weight can give it a value")
    rank = int(torch.linalg.matrix_rank(keys / lengths, rtol=DEPENDENT))
    if rank < number:
        raise UserError(
            f"the {number} keys are linearly dependent (rank {rank}), so their values cannot be chosen freely: leave "
            f"{number - rank} of the rules out, or merge them"
        )
    return lengths
