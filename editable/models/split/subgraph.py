"""Take a part out of a torch.fx graph and run it on the network that the graph was traced from."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import fx, nn

__all__ = ["ancestors", "as_function", "extract"]


def ancestors(roots: Iterable[fx.Node], within: set[fx.Node]) -> set[fx.Node]:
    """Find the nodes that some nodes are computed from, themselves included, without leaving a set of nodes."""
    found: set[fx.Node] = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node in within and node not in found:
            found.add(node)
            waiting.extend(node.all_input_nodes)
    return found


def extract(graph: fx.Graph, nodes: set[fx.Node], inputs: Sequence[fx.Node], output: Any) -> fx.Graph:
    """Copy some nodes of a graph, in order, into a graph of its own.

    Args:
        graph: The graph.
        nodes: What to copy.
        inputs: Nodes that become the inputs of the new graph, in this order.
        output: What the new graph returns: a node, or nodes in tuples, lists and dicts.
    """
    extracted = fx.Graph()
    copies = {node: extracted.placeholder(node.name) for node in inputs}
    for node in graph.nodes:
        if node in nodes and node not in copies:
            copies[node] = extracted.node_copy(node, copies.__getitem__)
    extracted.output(fx.map_arg(output, copies.__getitem__))
    return extracted


def as_function(network: nn.Module, graph: fx.Graph) -> Callable[..., Any]:
    """Turn a graph into a function of the network and the graph's inputs.

    A `GraphModule` would hold its own reference to each buffer and miss its replacement by ``network.to(…)``. Its
    class's forward reads modules, parameters and buffers from whatever it is called on: here, the network itself.
    """
    return type(fx.GraphModule(network, graph)).forward
