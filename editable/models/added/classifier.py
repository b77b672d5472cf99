"""Find a network's classifier, the linear layer that gives its logits."""

from torch import fx, nn

from editable.errors import UserError
from editable.models.added.row_layer import prefixes_of_rows
from editable.models.split.modes import evaluation_mode
from editable.models.split.tracing import trace_pure

__all__ = ["find_classifier"]


def find_classifier(network: nn.Module, what: str, name: str | None = None) -> tuple[str, nn.Linear]:
    """Return the name of a network's last linear layer, and the layer.

    Args:
        network: The network.
        what: What it is needed for, for messages: ``an extra layer``.
        name: Its name; by default it is found.

    Raises:
        UserError: If the last layer is not linear or cannot be found, or none has the name.
    """
    name = _last_layer(network, what) if name is None else name
    classifier = dict(network.named_modules()).get(name) if name else None
    if not isinstance(classifier, nn.Linear):
        found = "is not there" if classifier is None else f"is a {type(classifier).__name__}"
        raise UserError(
            f"{what} goes with a linear layer, but '{name}' of {type(network).__name__} {found}: "
            f"{_linear_layers(network)}"
        )
    return name, classifier


def _last_layer(network: nn.Module, what: str) -> str:
    """Find the last layer with parameters on the way to the output."""
    try:
        with evaluation_mode(network):
            graph = trace_pure(network)
    except Exception as error:  # whatever tracing raises
        raise UserError(
            f"cannot find the classifier of {type(network).__name__}, which torch.fx cannot trace: give its name, "
            f"{_linear_layers(network)}"
        ) from error
    memories = prefixes_of_rows(network)
    for node in reversed(graph.nodes):
        name = _layer_at(network, node) if node.users else None
        if name is not None and name.startswith(memories):
            continue  # a key of an edit is no class
        module = None if name is None else network.get_submodule(name)
        if name is not None and isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward:
            return name
        if module is not None and next(module.parameters(), None) is not None:
            raise UserError(
                f"{what} goes with a linear layer, but the last layer of {type(network).__name__}, "
                f"'{name}', is a {type(module).__name__}: {_linear_layers(network)}"
            )
    raise UserError(f"{type(network).__name__} is not made of layers with a linear one at its end")


def _layer_at(network: nn.Module, node: fx.Node) -> str | None:
    """Return the name of the layer that a node runs; one that computes in its own way shows by its weight."""
    if node.op == "call_module":
        return str(node.target)
    owner = str(node.target).rpartition(".")[0] if node.op == "get_attr" else ""
    return owner if owner and isinstance(network.get_submodule(owner), nn.Linear) else None


def _linear_layers(network: nn.Module) -> str:
    names = [name for name, module in network.named_modules() if name and isinstance(module, nn.Linear)]
    return f"its last linear layer is '{names[-1]}'" if names else "it has no linear layer"
