"""Where a graph is cut: what depends on an editable parameter, and what is so cheap that it is computed twice."""

from collections.abc import Sequence

import torch
from torch import fx, nn

from editable.errors import UserError
from editable.models.split.subgraph import ancestors, extract
from editable.models.split.tracing import find_plain_values

__all__ = ["cut", "find_dependent"]


def find_dependent(graph: fx.Graph, network: nn.Module, names: Sequence[str]) -> set[fx.Node]:
    """Find the nodes whose value depends on an editable parameter."""
    editable = {network.get_parameter(name) for name in names}
    dependent: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "call_module":
            holds = not editable.isdisjoint(network.get_submodule(str(node.target)).parameters())
        elif node.op == "get_attr":
            module, _, attribute = str(node.target).rpartition(".")
            holds = getattr(network.get_submodule(module), attribute) in editable
        else:
            holds = False
        if holds or not dependent.isdisjoint(node.all_input_nodes):
            dependent.add(node)
    if graph.output_node() not in dependent:
        raise UserError(f"editing {', '.join(names)} cannot change the output of {type(network).__name__}")
    return dependent


def _find_constants(graph: fx.Graph) -> set[fx.Node]:
    """Find the nodes that hold nothing of the input but, at most, its shape, type or device: cheap to compute again."""
    plain = find_plain_values(graph)
    constants: set[fx.Node] = set()
    for node in graph.nodes:
        if node in plain or (node.op != "placeholder" and constants.issuperset(node.all_input_nodes)):
            constants.add(node)
    return constants


def _is_copy(node: fx.Node) -> bool:
    """Whether a value is a copy of another one, such as what the first layer of a DenseNet's block reads."""
    joined = node.args[0] if node.target is torch.cat and node.args else ()
    return isinstance(joined, list | tuple) and len(joined) == 1


def cut(graph: fx.Graph, dependent: set[fx.Node], moved: frozenset[str]) -> tuple[fx.Graph, fx.Graph, tuple[str, ...]]:
    """Divide a graph into prefix and suffix; the third result names the nodes that become features.

    Constants, copies and the nodes named in ``moved`` do not become features: the suffix computes them again, from
    features.
    """
    repeated = _find_constants(graph) | {node for node in graph.nodes if node.name in moved or _is_copy(node)}
    output = graph.output_node()
    in_suffix = ancestors([output], within=dependent | repeated)
    cut = {source for node in in_suffix for source in node.all_input_nodes} - in_suffix
    features = [node for node in graph.nodes if node in cut]
    checks = [node for node in graph.nodes if node.target is torch._assert and node not in dependent]
    in_prefix = ancestors([*features, *checks], within=set(graph.nodes))
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    prefix = extract(graph, in_prefix, inputs, tuple(features))
    suffix = extract(graph, in_suffix - {output}, features, output.args[0])
    return prefix, suffix, tuple(node.name for node in features)
