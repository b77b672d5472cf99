"""Convolutions of a traced network replaced by what computes the same, up to rounding, and faster on this machine."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from torch import Tensor, fx, nn

from editable.models.machine.unfolded import UnfoldedConv2d
from editable.models.machine.winograd import WinogradConv2d
from editable.models.split.edit_form import has_hooks

__all__ = ["Transforms", "count_uses", "use_unfolded", "use_winograd"]

Transforms: TypeAlias = dict[str, Callable[[Tensor], Tensor]]
"""What makes new parameters of a convolution's own, by their place in the network."""


def use_winograd(module: fx.GraphModule) -> Transforms:
    """Replace the convolutions that Winograd's algorithm fits."""
    transforms: Transforms = {}
    spaces: dict[tuple[Any, ...], Tensor] = {}
    for place, convolution, size in _replaceable(module):
        if WinogradConv2d.fits(convolution, size):
            fast = WinogradConv2d(convolution.in_channels, convolution.out_channels, size)
            fast.spaces = spaces
            module.set_submodule(place, fast.to(convolution.weight))
            transforms[f"{place}.weight"] = WinogradConv2d.transform
    return transforms


def use_unfolded(module: fx.GraphModule) -> Transforms:
    """Replace the convolutions that are faster as one product."""
    transforms: Transforms = {}
    for place, convolution, size in _replaceable(module):
        if UnfoldedConv2d.fits(convolution, size):
            module.set_submodule(place, UnfoldedConv2d(convolution, size).to(convolution.weight))
            transforms[f"{place}.weight"] = UnfoldedConv2d.transform
    return transforms


def count_uses(graph: fx.Graph) -> Counter[str]:
    """Return how often each module is used: called as a whole, or one of its tensors read."""
    called = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    return called + Counter(str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr")


def _replaceable(module: fx.GraphModule) -> Iterator[tuple[str, nn.Conv2d, tuple[int, int]]]:
    """Yield place, layer, and H and W of the input, of each convolution that is called once and that nothing hooks."""
    uses = count_uses(module.graph)
    for node in module.graph.nodes:
        place = str(node.target)
        convolution = module.get_submodule(place) if node.op == "call_module" and uses[place] == 1 else None
        if type(convolution) is nn.Conv2d and not has_hooks(convolution):
            height, width = node.all_input_nodes[0].meta["tensor_meta"].shape[2:]
            yield place, convolution, (height, width)
