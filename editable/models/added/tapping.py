"""Read what goes into layers of a network while it runs, also where ``torch.fx`` traces it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, fx, nn

from editable.errors import UserError
from editable.models.logits import logits_of

__all__ = ["run_tapped", "tapping"]


def run_tapped(
    network: nn.Module, x: Tensor, taps: Sequence[tuple[str, nn.Module]], what: str
) -> tuple[Tensor, list[Tensor]]:
    """Run a network as it is, and others on what goes into some of its layers.

    Args:
        network: A classifier.
        x: What it reads.
        taps: For each tap, the name of a layer, and what is run on the layer's first argument: at once, since a network
            may later write into it in place.
        what: What a tap is, for the message: ``the filter of a new class``.

    Returns:
        The logits, and what each tap gives.

    Raises:
        UserError: If a layer is used at several places or nowhere.
    """
    pairs = [(network.get_submodule(name), tap) for name, tap in taps]
    with tapping(pairs) as found:
        logits = logits_of(network(x))
    if isinstance(x, fx.Proxy):
        _tap_traced(x.tracer, pairs, found)
    for (name, _), values in zip(taps, found, strict=True):
        if len(values) != 1:
            whole = _called_as_a_whole(x.tracer, network.get_submodule(name)) if isinstance(x, fx.Proxy) else None
            if whole is not None:
                raise UserError(f"'{name}', whose input {what} reads, lies in {whole}, which cannot be traced itself")
            raise UserError(
                f"'{name}' is used at {len(values)} places in a forward pass of {type(network).__name__}: {what} reads "
                "what goes into a layer at one place, so choose another layer"
            )
    return logits, [values[0] for values in found]


@contextmanager
def tapping(pairs: Sequence[tuple[nn.Module, nn.Module]]) -> Iterator[list[list[Any]]]:
    """Collect what taps make of the inputs of layers, each time that these are called."""
    found: list[list[Any]] = [[] for _ in pairs]

    def collect(tap: nn.Module, values: list[Any]) -> Any:
        return lambda _, args: values.append(tap(args[0]))

    handles = [
        layer.register_forward_pre_hook(collect(tap, values)) for (layer, tap), values in zip(pairs, found, strict=True)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _tap_traced(tracer: Any, pairs: Sequence[tuple[nn.Module, nn.Module]], found: list[list[Any]]) -> None:
    """Add taps to a graph in the making, in which hooks on torch's own layers do not run."""
    for (layer, tap), values in zip(pairs, found, strict=True):
        target = tracer.path_of_module(layer)
        for node in [node for node in tracer.graph.nodes if node.op == "call_module" and node.target == target]:
            with tracer.graph.inserting_before(node):
                values.append(tap(tracer.proxy(node.all_input_nodes[0])))


def _called_as_a_whole(tracer: Any, layer: nn.Module) -> str | None:
    """Return the class of a module around a layer that a graph in the making calls as one; none where there is none."""
    path = tracer.path_of_module(layer)
    targets = (str(node.target) for node in tracer.graph.nodes if node.op == "call_module")
    around = next((target for target in targets if path.startswith(f"{target}.")), None)
    return None if around is None else type(tracer.root.get_submodule(around)).__name__
