"""How much rewrites of a layer change what it puts out for other images: what a closed form keeps smallest."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

from editable.rewriting.memory.block import LayerBlock

__all__ = ["OutputChange", "relative_output_changes"]

OutputChange: TypeAlias = Callable[[Tensor], Tensor]
"""From a layer's inputs to the change of its outputs."""

Name = TypeVar("Name", bound=str)


@torch.no_grad()
def relative_output_changes(
    block: LayerBlock, batches: Iterable[Tensor], changes: Mapping[Name, OutputChange]
) -> dict[Name, float]:
    r"""Return :math:`\sqrt{\sum \lVert \Delta W \star A \rVert^2 / \sum \lVert W_0 \star A \rVert^2}` of rewrites.

    Args:
        block: The layer.
        batches: Images [N, C, H, W] as the network takes them; each goes through what leads to the layer once.
        changes: By name, from the layer's inputs to the change of its outputs.
    """
    whole, sums = 0.0, dict.fromkeys(changes, 0.0)
    for images in batches:
        inputs = block.inputs(images.to(block.weight))
        whole += _square(block.outputs(inputs) - block.outputs(torch.zeros_like(inputs[:1])))
        for name, change in changes.items():
            sums[name] += _square(change(inputs))
    return {name: (total / (whole or 1.0)) ** 0.5 for name, total in sums.items()}


def _square(tensor: Tensor) -> float:
    return float(tensor.double().square().sum())
