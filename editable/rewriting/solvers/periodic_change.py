"""A rewrite with a kernel as large as the map, uncut: the change stands beside the layer, with periodic borders."""

import copy
import time
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from editable.errors import UserError
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.memory.fourier_memory import correlate_periodically, cut_kernel
from editable.rewriting.memory.memory import ConvGeometry
from editable.rewriting.solvers.base import numerical_rank
from editable.rewriting.solvers.fourier_closed_form import FourierClosedForm
from editable.rewriting.solvers.result import RewriteResult

__all__ = ["PeriodicRewrite", "PeriodicallyChanged", "check_periodic_change", "rewrite_periodically"]


class PeriodicallyChanged(nn.Module):
    """A convolution and a change that its own kernel has no room for: ``layer(x) + change ⋆ x``.

    The layer keeps its borders; those of the change are periodic. The change is computed in float64.

    Args:
        layer: A convolution whose outputs are as large as its inputs.
        change: [f, c, Q, R], as large as the layer's inputs.
    """

    def __init__(self, layer: nn.Module, change: Tensor) -> None:
        super().__init__()
        self.layer, self.change = layer, nn.Parameter(change)

    def forward(self, x: Tensor) -> Tensor:
        """Return the changed layer's output, [N, f, Q, R]."""
        return self.layer(x) + correlate_periodically(x, self.change).to(x.dtype)


class PeriodicRewrite(NamedTuple):
    """A rewrite by a full-size kernel.

    Attributes:
        network: A copy of the network whose layer has a change beside it, which is zero: the network as it was.
        result: The change, to be given to this copy as a parameter, and the measures of any rewrite. ``norm`` is that
            of the change, ``relative_norm`` over the norm of the layer's weight.
    """

    network: nn.Module
    result: RewriteResult


@torch.no_grad()
def rewrite_periodically(problem: RewriteProblem, epsilon: float = 1e-4) -> PeriodicRewrite:
    """Rewrite a convolution in the Fourier domain without cutting the kernel to the layer's own size.

    What :class:`FourierClosedForm` cuts: with periodic borders it meets the rule's constraint at the least change of
    the layer's outputs over the reference images. A layer cannot hold it as its weight.

    Args:
        problem: Of a patch memory, with reference images.
        epsilon: As of :class:`FourierClosedForm`.

    Raises:
        UserError: As of :class:`FourierClosedForm`, or if the layer's outputs are not as large as its inputs.
    """
    block = problem.block
    geometry = check_periodic_change(block.layer, block.geometry)
    start = time.perf_counter()
    change = FourierClosedForm(epsilon).full_size_change(problem).to(problem.weight)
    seconds = time.perf_counter() - start
    inputs = problem.exemplars.inputs
    changed = block.outputs(inputs) + correlate_periodically(inputs, change).to(inputs.dtype)
    recalled = (problem.matrix + problem.memory.matrix(cut_kernel(change, geometry).double())) @ problem.keys
    network = copy.deepcopy(block.network)
    network.set_submodule(
        block.layer, PeriodicallyChanged(network.get_submodule(block.layer), torch.zeros_like(change))
    )
    norm = change.double().norm().item()
    return PeriodicRewrite(
        network,
        RewriteResult(
            params={f"{block.layer}.change": change},
            loss_before=problem.loss(problem.weight).item(),
            loss=problem.distance(block.finish(changed)).item(),
            residual=(recalled - problem.values).norm().item() / (problem.values.norm().item() or 1.0),
            rank=numerical_rank(change.flatten(1), problem.weight),
            norm=norm,
            relative_norm=norm / (problem.weight.double().norm().item() or 1.0),
            num_steps=0,
            seconds=seconds,
            losses=[],
        ),
    )


def check_periodic_change(layer: str, geometry: ConvGeometry | None) -> ConvGeometry:
    """Return a layer's geometry, if the layer can have a change as large as its inputs.

    Args:
        layer: Its name, for the message.
        geometry: How its kernel moves; none for a linear layer.

    Raises:
        UserError: If it is no convolution of stride 1 whose outputs are as large as its inputs.
    """
    if geometry is not None and geometry.stride == (1, 1):
        reach = cast(tuple[int, int], tuple(2 * padding for padding in geometry.padding))
        if reach == geometry.span:
            return geometry
    raise UserError(
        f"'{layer}' is no convolution of stride 1 whose outputs are as large as its inputs, which a kernel as large as "
        "the map needs"
    )
