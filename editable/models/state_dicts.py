"""A network's state dict in what people save: nested in a checkpoint, behind prefixes, without tied tensors."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from editable.models.tied import tied_names

__all__ = ["FoundState", "entries", "find_state", "optional_names", "tensors_of"]

State = Mapping[str, Tensor]

ENTRIES = ("state_dict", "model_state_dict", "model", "network", "net", "module", "weights", "params")
"""Keys under which checkpoints have a state dict, those that are looked at first; averages (``ema``) come last."""

AVERAGES = ("ema", "avg", "average", "swa", "shadow")
"""Parts of the names that running averages of a network have."""


class FoundState(NamedTuple):
    """A state dict inside a file.

    Attributes:
        state: Tensors by the network's names, as far as they fit.
        entry: Where in the file they are, keys joined by dots; empty at the top.
        prefix: What was taken from the beginning of their names.
        left_out: Names beside them that were left out, with their entry.
        missing: Names of the network that the state dict has not.
        unexpected: Names that the network has not.
    """

    state: dict[str, Tensor]
    entry: str
    prefix: str
    left_out: list[str]
    missing: list[str]
    unexpected: list[str]

    @property
    def num_mistakes(self) -> int:
        """Number of names that do not fit."""
        return len(self.missing) + len(self.unexpected)


def find_state(network: nn.Module, content: Any) -> FoundState | None:
    """Return the state dict that fits a network best; a place where all names fit wins over others.

    Looked for, in this order: a state dict at the top, or under one of :data:`ENTRIES` or another key, but none of an
    optimizer or a scheduler; names as they are, behind ``network.`` (a task's checkpoint), or behind any other prefix
    (``module.``, ``_orig_mod.``, ``model.`` and such, also several). Of a network and its running average
    (:data:`AVERAGES`) the network is taken. A name that is missing is made up for by another name of the same tensor,
    as ``safetensors.save_model`` leaves them out.

    Args:
        network: The network to be loaded.
        content: What a file holds.

    Returns:
        The best of all; none where there is no mapping of tensors.
    """
    best: FoundState | None = None
    found_entries = list(entries(content))
    for entry, state in found_entries:
        for prefix in _prefixes(network, state):
            found = _behind(network, state, entry, prefix)
            if best is None or found.num_mistakes < best.num_mistakes:
                best = found
        if best is not None and not best.num_mistakes:
            break
    if best is None:
        return None
    others = [f"{entry}.*" for entry, _ in found_entries if entry and entry != best.entry]
    return best._replace(left_out=best.left_out + others)


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a network's state dict, without what modules keep there besides (``get_extra_state``)."""
    return {name: some for name, some in network.state_dict().items() if isinstance(some, Tensor)}


def optional_names(network: nn.Module) -> set[str]:
    """Return names that a file need not have: counters of batch normalisation, which came with torch 0.4.1."""
    return {name for name in network.state_dict() if name.endswith("num_batches_tracked")}


def entries(content: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, State]]:
    """Yield the mappings of tensors in nested mappings, the likeliest first."""
    if not isinstance(content, Mapping) or not content:
        return
    if all(isinstance(value, Tensor) for value in content.values()):
        yield path, {str(name): value for name, value in content.items()}
        return
    if depth > 2:
        return

    def rank(key: Any) -> tuple[bool, int]:
        name = str(key).lower()
        return _is_average(name), ENTRIES.index(name) if name in ENTRIES else len(ENTRIES)

    for key in sorted((some for some in content if not _is_of_training(some)), key=rank):
        yield from entries(content[key], f"{path}.{key}" if path else str(key), depth + 1)


def _is_of_training(key: Any) -> bool:
    """Return whether what a key names is never a network, though it holds tensors as large as a network's."""
    # An optimizer's state is by the number of the parameter.
    return isinstance(key, int) or any(part in str(key).lower() for part in ("optim", "scheduler"))


def _is_average(name: str) -> bool:
    return any(part in name.lower() for part in AVERAGES)


def _prefixes(network: nn.Module, state: State) -> list[str]:
    """Return what may stand before the network's names: nothing, a task's, the shortest, averages' (``ema.``) last."""
    expected = [name for name in tensors_of(network) if name not in optional_names(network)]
    found = {""}
    for name in expected[:1] + expected[-1:]:
        found |= {key.removesuffix(name) for key in state if key.endswith(f".{name}")}
    return sorted(
        found, key=lambda prefix: (prefix != "", prefix != "network.", _is_average(prefix), len(prefix), prefix)
    )


def _behind(network: nn.Module, state: State, entry: str, prefix: str) -> FoundState:
    inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    expected, optional = tensors_of(network), optional_names(network)
    tied = tied_names(network)
    for name in expected:
        if name not in inside:
            others = [other for other in tied.get(name, ()) if other in inside]
            if others:
                inside[name] = inside[others[0]]
    missing = [name for name in expected if name not in inside and name not in optional]
    unexpected = [name for name in inside if name not in expected]
    left_out = [] if not prefix else [name for name in state if not name.startswith(prefix)]
    if not prefix and not missing:  # whole copies beside, such as an average's
        whole = [name for name in expected if name not in optional]
        copies = [some for some in _prefixes(network, state) if some and all(some + name in state for name in whole)]
        beside = [name for name in unexpected if any(name.startswith(some) for some in copies)]
        unexpected, left_out = [name for name in unexpected if name not in beside], beside
    fitting = {name: value for name, value in inside.items() if name in expected}
    return FoundState(fitting, entry, prefix, left_out, missing, unexpected)
