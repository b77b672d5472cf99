"""Several layers rewritten one after the other, so that each reads a concept as if it were not there."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from editable.errors import UserError, require_positive
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.memory import make_memory
from editable.rewriting.solvers.base import Progress, Solution, Solver

__all__ = ["LayerwiseLeastSquares"]

IMAGES_AT_ONCE = 10  # their activations are small enough to be kept in a processor's heap


class LayerwiseLeastSquares(Solver):
    r"""Takes the keys of several layers back to what they are without a concept, by ridge regression.

    .. math:: W_1 = W_0 A, \qquad A = \arg\min_A \sum_p \lVert A k'_p - k_p \rVert^2
        + \sum_p \lVert A \bar k_p - k_p \rVert^2 + \rho \lVert A - I \rVert^2

    over all positions p of all exemplars: k are the keys (patches under the kernel) that the network reads in the
    original, k' those that it reads at the same place in the manipulated image and k̄ those in the original, both with
    the layers before rewritten already. So each layer takes back what is left of the concept, and of the harm that the
    layers before it do to images without it; no mask is looked at, since the concept reaches beyond it as layers see
    more of the image. In closed form A = I + R (G + ρI)⁻¹ with G = Σ k'k'ᵀ + Σ k̄k̄ᵀ and R = Σ (k − k')k'ᵀ + Σ (k − k̄)k̄ᵀ.

    The problem's layer is the first one. A layer before which the whole image has been read, such as the last linear
    one, has one key of an image: hundreds of exemplars are few there.

    Args:
        layers: Names of further layers, in the order in which the network runs them.
        ridge: ρ, as a multiple of the mean diagonal entry of G.

    Raises:
        UserError: If the ridge is not positive; when called, if the problem has no originals, a layer is named twice or
            after one that it leads to.
    """

    uses_keys = False

    def __init__(self, layers: Sequence[str] = (), ridge: float = 1e-3) -> None:
        require_positive(ridge=ridge)
        self.layers, self.ridge = list(layers), ridge

    @torch.no_grad()
    def _solve(self, problem: RewriteProblem, progress: Progress | None) -> Solution:
        images, originals, network = problem.images, problem.originals, problem.block.network
        if images is None or originals is None:
            missing = "images" if images is None else "originals"
            raise UserError(f"a layerwise fit needs exemplars with and without the concept, got no {missing}")
        blocks = [problem.block, *(LayerBlock(network, name) for name in self.layers)]
        _check_order(blocks)
        device, edited, params = problem.weight.device, copy.deepcopy(network), dict[str, Tensor]()
        for block in blocks:
            fitted = self._fit(block, LayerBlock(edited, block.layer), images.to(device), originals.to(device))
            params[block.weight_name] = nn.Parameter(fitted.to(block.weight.dtype))
            edited.get_parameter(block.weight_name).copy_(fitted)
        return Solution(params, [])

    def _fit(self, block: LayerBlock, edited: LayerBlock, images: Tensor, originals: Tensor) -> Tensor:
        """Return the weight W₁ of a layer, float64, of which the edited network has those before already."""
        memory = make_memory(tuple(block.weight.shape), block.geometry, "patch")
        moment = block.weight.new_zeros(memory.key_size, memory.key_size, dtype=torch.float64)
        cross = torch.zeros_like(moment)
        for manipulated, original in zip(images.split(IMAGES_AT_ONCE), originals.split(IMAGES_AT_ONCE), strict=True):
            wanted = _columns(memory.keys(block.inputs(original)))
            for seen in (manipulated, original):
                keys = _columns(memory.keys(edited.inputs(seen)))
                moment += keys @ keys.T
                cross += (wanted - keys) @ keys.T
        ridge = self.ridge * moment.trace() / len(moment)
        moment.diagonal().add_(ridge)
        matrix = memory.matrix(block.weight.double())
        return memory.weight(matrix + matrix @ torch.linalg.solve(moment, cross, left=False))


def _columns(keys: Tensor) -> Tensor:
    """Return keys [N, c, P] as columns, float64 [c, N·P]."""
    return keys.double().transpose(0, 1).flatten(1)


def _check_order(blocks: Sequence[LayerBlock]) -> None:
    for position, block in enumerate(blocks):
        for earlier in blocks[:position]:
            if earlier.layer == block.layer:
                raise UserError(f"'{block.layer}' is named twice: each layer is rewritten once")
            if block.weight_name in earlier.upstream_state:
                raise UserError(
                    f"'{earlier.layer}' is to be rewritten before '{block.layer}', which it reads the output of: name "
                    "layers in the order in which the network runs them"
                )
