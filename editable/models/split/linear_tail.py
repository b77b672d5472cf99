"""The suffix where only one linear layer is editable and all behind it is linear: logits follow the layer's change."""

import operator
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata

from editable.models.split.edit_form import allow_any_layout, has_hooks
from editable.models.split.split_network import Features, SplitNetwork

__all__ = ["LinearTail", "TailValues", "linear_tail"]


class TailValues(NamedTuple):
    """What a `LinearTail` makes of N inputs.

    Attributes:
        keys: What the edited layer reads, with a 1 behind it, [N, d].
        logits: Of the unedited network, [N, C].
        slack: By how much rounding may change one of them at most, whatever the order of additions, [N].
    """

    keys: Tensor
    logits: Tensor
    slack: Tensor


class LinearTail:
    """A suffix that is linear in the output of the one layer that may be edited.

    With a change ΔW, Δb of the layer, logits change by D(ΔW h + Δb), where D [C, o] is the product of what lies behind
    the layer, the unit matrix for the last one. It keeps a copy of the suffix as it is when this is made.

    Args:
        module: The suffix, which is changed.
        node: The call of the edited layer in it.
        names: The name of each editable parameter by its place in it.

    See Also:
        `linear_tail`, which makes it of a split.
    """

    def __init__(self, module: fx.GraphModule, node: fx.Node, names: Mapping[str, str]) -> None:
        layer = _linear(module, node)
        assert layer is not None
        self._module, self._layer = module, layer
        self._weight, self._bias = (names.get(f"{node.target}.{part}", "") for part in ("weight", "bias"))
        self._position = [some for some in module.graph.nodes if some.op == "placeholder"].index(node.args[0])
        maps = _maps_behind(module, node)
        assert maps is not None
        (last,) = module.graph.output_node().all_input_nodes
        self._behind = None if last is node else maps[last].to(self._layer.weight)
        self._readers = [_reader(module, some, maps) for some in maps if _linear(module, some)]
        self._read: dict[nn.Module, Tensor] = {}
        for reader in self._readers:
            reader.layer.register_forward_pre_hook(self._keep)

    @torch.no_grad()
    def __call__(self, features: Features) -> TailValues:
        """Return keys, logits and their rounding for N inputs, of which the split's prefix made these features."""
        features = _in_precision_of(self._layer, features)
        logits = self._module(*features)
        keys = torch.cat([features[self._position], features[self._position].new_ones(len(logits), 1)], dim=1)
        slack = 4 * torch.finfo(logits.dtype).eps * logits.abs().amax(dim=1)
        for layer, per_length, offset, _ in self._readers:
            slack = slack + per_length * self._read[layer].norm(dim=1) + offset
        self._read.clear()
        return TailValues(keys, logits, slack)

    @torch.no_grad()
    def change(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return D[ΔW, Δb] of edited parameters, [C, d]: its product with a key is the change of the logits."""
        change = self._own_change(params)
        return change if self._behind is None else self._behind @ change

    @torch.no_grad()
    def rounding(self, params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return how rounding grows with a change, both scalars and for a key of length 1.

        Returns:
            What edited parameters add to the slack, and how far their own rounding may turn logits.
        """
        size = self._own_change(params).norm()
        own = self._readers[0]
        return size * sum(reader.spread for reader in self._readers), own.per_length + own.spread * size

    def _own_change(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return [ΔW, Δb], [o, d]."""
        weight, bias = self._layer.weight, self._layer.bias
        change = nn.functional.pad(params.get(self._weight, weight) - weight, (0, 1))
        if bias is not None:
            change[:, -1] = params.get(self._bias, bias) - bias
        return change

    def _keep(self, layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        self._read[layer] = arguments[0]


def linear_tail(split: SplitNetwork, features: Features) -> LinearTail | None:
    """Return the suffix as a `LinearTail`, or None where it is none.

    It is one where the editable parameters are those of one linear layer, which is called once and reads a feature, and
    behind it lie only linear layers, sums with other features, and what does nothing in evaluation. That is so for
    ``fc``, and for the last matrix of an extra layer.

    Args:
        split: The network, split at this layer.
        features: Features of a few inputs, whose shapes are looked at.
    """
    places = {name.rpartition(".")[0] for name in split.names}
    if len(places) > 1:
        return None
    module, names = split.copy_suffix()
    if not isinstance(module, fx.GraphModule) or {name.rpartition(".")[0] for name in names} != places:
        return None  # not traced, or tied to another place
    calls = [node for node in module.graph.nodes if node.op == "call_module"]
    nodes = [node for node in calls if node.target in places]
    layer = (
        _linear(module, nodes[0]) if len(nodes) == 1 and len({node.target for node in calls}) == len(calls) else None
    )
    if layer is None or nodes[0].all_input_nodes[0].op != "placeholder":
        return None
    allow_any_layout(module.graph)
    module.requires_grad_(False).recompile()
    with torch.no_grad():
        ShapeProp(module).propagate(*_in_precision_of(layer, features))
    return None if _maps_behind(module, nodes[0]) is None else LinearTail(module, nodes[0], names)


class _Reader(NamedTuple):
    """A linear layer, the edited one or one behind it, and how its rounding reaches the logits.

    Attributes:
        layer: The layer.
        per_length: Rounding of a logit by it at most, for an input of length 1.
        offset: The same for its bias.
        spread: The same for a change of the edited layer of norm 1, and a key of length 1.
    """

    layer: nn.Linear
    per_length: float
    offset: float
    spread: float


def _reader(module: fx.GraphModule, node: fx.Node, maps: Mapping[fx.Node, Tensor]) -> _Reader:
    """Bound the rounding by a layer, given the matrices behind the edited one.

    A sum of n products a_i b_i has a rounding of at most nε|a||b|, in any order.
    """
    layer, onwards = _linear(module, node), _maps_behind(module, node)
    assert layer is not None
    assert onwards is not None
    gain = float(onwards[module.graph.output_node().all_input_nodes[0]].abs().sum(dim=1).max())
    # As many products as the layer has inputs, and where it is multiplied into the next one, as it has outputs
    rounding = gain * (layer.in_features + layer.out_features + 4) * torch.finfo(layer.weight.dtype).eps
    per_length = rounding * float(layer.weight.norm(dim=1).max())
    offset = 0.0 if layer.bias is None else rounding * float(layer.bias.abs().max())
    source = node.all_input_nodes[0]
    return _Reader(layer, per_length, offset, per_length * float(maps[source].norm()) if source in maps else rounding)


def _maps_behind(module: fx.GraphModule, node: fx.Node) -> dict[fx.Node, Tensor] | None:
    """Return the matrices from a linear layer's output to all values behind it, float64; None where one is not linear.

    Args:
        module: Whose nodes have been given shapes by ``ShapeProp``.
        node: The layer's call.
    """
    weight = module.get_submodule(str(node.target)).weight
    assert isinstance(weight, Tensor)
    maps = {node: torch.eye(len(weight), dtype=torch.float64, device=weight.device)}
    nodes = list(module.graph.nodes)
    for after in nodes[nodes.index(node) + 1 :]:
        if after.op == "output":
            return maps if after.args[0] in maps else None
        if not maps.keys().isdisjoint(after.all_input_nodes):
            made, meta = _map_of(module, after, maps), after.meta.get("tensor_meta")
            if made is None or not isinstance(meta, TensorMetadata) or meta.shape[1:] != made.shape[:1]:
                return None
            maps[after] = made
    return None


def _map_of(module: fx.GraphModule, node: fx.Node, maps: Mapping[fx.Node, Tensor]) -> Tensor | None:
    """Return the matrix from an edited layer's output to a value behind it; None where it is not known to be one."""
    terms = [maps[some] for some in node.args if isinstance(some, fx.Node) and some in maps]
    if node.op == "call_function" and node.target in (operator.add, torch.add) and not node.kwargs:
        return torch.stack(terms).sum(dim=0) if len({term.shape for term in terms}) == 1 else None
    if node.op != "call_module" or len(node.args) != 1 or node.kwargs:
        return None
    linear, layer = _linear(module, node), module.get_submodule(str(node.target))
    if linear is not None:
        return linear.weight.detach().double() @ terms[0]
    return terms[0] if type(layer) in (nn.Identity, nn.Dropout) and not has_hooks(layer) else None


def _linear(module: fx.GraphModule, node: fx.Node) -> nn.Linear | None:
    """Return the layer that a node calls if it is a linear one without hooks."""
    if node.op != "call_module" or len(node.args) != 1 or node.kwargs:
        return None
    layer = module.get_submodule(str(node.target))
    return layer if isinstance(layer, nn.Linear) and type(layer) is nn.Linear and not has_hooks(layer) else None


def _in_precision_of(layer: nn.Linear, features: Features) -> Features:
    dtype = layer.weight.dtype
    return tuple(some.to(dtype) if some.is_floating_point() else some for some in features)
