"""The loss of a rewrite problem computed where its mask is not zero only: the same number for less work."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.memory.memory import ConvGeometry

__all__ = ["focused_loss"]


def focused_loss(problem: RewriteProblem) -> Callable[[Tensor], Tensor]:
    """Return the problem's loss as a function of the layer's weight, equal to ``problem.loss`` but for rounding.

    The patches that the kernel sees under the mask are cut out once and stand in a row, so that the convolution is a
    matrix product; BatchNorm with running statistics and nearly all activations act on each position by itself. Where
    one does not, the mask covers more than half of the block's output, or the layer is linear, it is ``problem.loss``
    itself.

    Args:
        problem: The whole problem.
    """
    geometry = problem.block.geometry
    covered = problem.value_mask > 0
    if geometry is None or 2 * int(covered.sum()) > covered.numel():
        return problem.loss
    with torch.no_grad():
        inputs = _covered_patches(problem.exemplars.inputs, covered, geometry)
        targets = problem.targets.movedim(1, -1)[covered].T[None, :, None]
        mask = problem.value_mask[covered] / problem.value_mask.sum()
    row = copy.copy(problem.block)
    row.geometry = ConvGeometry((1, 1))

    def loss(weight: Tensor) -> Tensor:
        values = row.values(inputs, weight.flatten(1)[:, :, None, None])
        return ((values - targets).abs().mean(dim=1) * mask).sum()

    with torch.no_grad():
        agrees = torch.isclose(loss(problem.weight), problem.loss(problem.weight), rtol=1e-3)
    return loss if agrees else problem.loss


def _covered_patches(inputs: Tensor, covered: Tensor, geometry: ConvGeometry) -> Tensor:
    """Return what the kernel sees at the P covered positions of the output, [1, c·m·n, 1, P]."""
    kernel, stride, padding, dilation = geometry
    patches = functional.unfold(inputs, kernel, dilation, padding, stride)
    return patches.transpose(1, 2)[covered.flatten(1)].T.contiguous()[None, :, None]
