"""Layers with a row for each edit: how many there are is the weights' to say, not the layer's."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

__all__ = ["RowLayer", "prefixes_of_rows", "row_counts", "row_groups"]


class RowLayer(nn.Module):
    """A layer to which edits add rows; a state dict is loaded with as many as it has.

    Attributes:
        rows: Names of the parameters that have a row for each edit, in their first dimension.
    """

    rows: ClassVar[tuple[str, ...]]

    def resize(self, rows: int) -> None:
        """Make room for R rows, which are then empty."""
        for name in self.rows:
            path, _, attribute = name.rpartition(".")
            module, own = self.get_submodule(path), self.get_parameter(name)
            setattr(module, attribute, nn.Parameter(own.new_zeros(rows, *own.shape[1:]), own.requires_grad))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take as many rows as the state has."""
        name = self.rows[-1]
        rows = state_dict.get(prefix + name)
        if isinstance(rows, Tensor) and rows.ndim == self.get_parameter(name).ndim:
            self.resize(len(rows))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def prefixes_of_rows(network: nn.Module) -> tuple[str, ...]:
    """Return what the names of layers inside a network's layers of rows begin with."""
    return tuple(f"{name}." for name, module in network.named_modules() if isinstance(module, RowLayer))


def row_counts(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return how many rows a state dict has for each layer of rows of a network, by the layer's name.

    Args:
        network: The network, whose layers may have other numbers of rows.
        state: A state dict; a layer that is not in it, or whose parts do not agree, is left out.
    """
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, RowLayer):
            parts = [state.get(f"{name}.{part}") for part in module.rows]
            counts = {len(part) if part is not None and part.ndim else 0 for part in parts}
            if len(counts) == 1 and 0 not in counts:
                found[name] = counts.pop()
    return found


def row_groups(state: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Return the names of the tensors that have a row for each edit, by the layer's name.

    Layers that are called alike, such as a network's own ``keys`` and ``values``, are none: a layer of rows has as many
    in each of its tensors, and its first key and value are zeros.

    Args:
        state: A state dict, or edited parameters; no network is needed.
    """
    found: dict[str, list[str]] = {}
    for kind in RowLayer.__subclasses__():
        for name in state:
            if name.endswith(f".{kind.rows[0]}") or name == kind.rows[0]:
                layer = name.removesuffix(kind.rows[0])
                group = [layer + part for part in kind.rows]
                if all(part in state for part in group) and _has_rows([state[part] for part in group]):
                    found[layer.removesuffix(".")] = group
    return found


def _has_rows(parts: Sequence[Tensor]) -> bool:
    """Return whether tensors are those of a layer of rows: of one length, with zeros in the first row of matrices."""
    if any(part.ndim == 0 for part in parts) or len({len(part) for part in parts}) != 1 or not len(parts[0]):
        return False
    return not any(part[0].any() for part in parts if part.ndim == 2)
