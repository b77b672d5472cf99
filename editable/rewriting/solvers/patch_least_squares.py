"""The exact kernel of a convolution by least squares, borders included: its patches are unfolded, and it is linear."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from editable.errors import UserError
from editable.rewriting.memory.inverse_moment import InverseMoment, Regularisation
from editable.rewriting.memory.memory import PatchMemory
from editable.rewriting.memory.second_moment import SecondMoment
from editable.rewriting.solvers.closed_form import closed_form_update

__all__ = ["PatchLeastSquares", "constrained_patch_least_squares", "patch_least_squares"]


class PatchLeastSquares(NamedTuple):
    """A kernel of least squared error, and what further constraints need.

    Attributes:
        weight: float64 [f, c, m, n].
        inverse: Of the second moment of the patches, G / n with G = X Xᵀ.
        memory: That the patches are keys of.
    """

    weight: Tensor
    inverse: InverseMoment
    memory: PatchMemory


@torch.no_grad()
def patch_least_squares(
    memory: PatchMemory, batches: Iterable[tuple[Tensor, Tensor]], epsilon: float = 0.0
) -> PatchLeastSquares:
    r"""Return the kernel that gives values for inputs with least squared error.

    .. math:: \min_W \sum \lVert V - W \star A \rVert^2 + \rho \lVert W \rVert^2: \qquad
       W = V X^\top (G + \rho I)^{-1}, \quad G = X X^\top

    X [c·m·n, n] are the unfolded patches of all inputs, so that zero borders, stride and dilation are those of the
    layer. For periodic borders fill the inputs with ``torch.nn.functional.pad(…, mode="circular")`` and give a memory
    without padding.

    Args:
        memory: Of the layer, architecture 2.
        batches: Pairs of inputs A [N, c, H, W] and values V [N, f, H', W'], what the layer shall put out without its
            bias; taken once, and summed in float64.
        epsilon: Ridge ρ as a multiple of the mean diagonal entry of G.

    Raises:
        UserError: If shapes do not fit, a value is NaN or infinite, there are no patches, or G + ρI is singular.

    See Also:
        :func:`editable.rewriting.fourier_least_squares`, for periodic borders and kernels as large as the map.
    """
    moment, cross = SecondMoment(memory.key_size), torch.zeros(memory.value_size, memory.key_size, dtype=torch.float64)
    for inputs, values in batches:
        keys = memory.keys(inputs.double())
        size = memory.key_map_size((inputs.shape[-2], inputs.shape[-1]))
        wanted = (len(inputs), memory.value_size, *size)
        if tuple(values.shape) != wanted or not values.isfinite().all():
            raise UserError(f"values for these inputs must be finite {[*wanted]}, got {[*values.shape]}")
        moment.update(keys)
        cross += torch.einsum("nfp,ncp->fc", values.double().flatten(2), keys).to(cross)
    if moment.count == 0:
        raise UserError("no inputs were given to fit a kernel to")
    inverse = InverseMoment(moment, Regularisation(epsilon=epsilon))
    return PatchLeastSquares(memory.weight(inverse.solve(cross.T / moment.count).T), inverse, memory)


def constrained_patch_least_squares(fit: PatchLeastSquares, keys: Tensor, values: Tensor) -> Tensor:
    r"""Return the kernel of least squared error among those that recall given values for given patches.

    .. math:: \min_W \sum \lVert V - W \star A \rVert^2 \text{ subject to } W U = V_*: \qquad
       W_1 = W + (V_* - W U) (U^\top G^{-1} U)^{-1} U^\top G^{-1}

    Args:
        fit: The kernel of least squared error.
        keys: U, patches in columns, [c·m·n, S].
        values: V* [f, S].

    Returns:
        float64 [f, c, m, n].

    Raises:
        UserError: If shapes do not fit, something is not finite, or the keys depend on each other.
    """
    matrix = fit.memory.matrix(fit.weight)
    update = closed_form_update(matrix, keys, values, fit.inverse)
    return fit.memory.weight(matrix + update.coefficients @ update.directions.T)
