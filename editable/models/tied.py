"""Tensors that a network holds under several names: they are one, and what is written under one name is under all."""

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from editable.errors import UserError

__all__ = ["require_own_memory", "spread_tied", "tied_names"]

_T = TypeVar("_T")


def tied_names(network: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return, for each name in a network's state dict, all names of the same tensor, in the network's order.

    Tensors are the same where they are one object, or where they lie in the same memory with the same shape, as
    ``a.weight.data = b.weight.data`` makes them.
    """
    groups: dict[Hashable, list[str]] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor):
            groups.setdefault(_identity(tensor), []).append(name)
    return {name: tuple(names) for names in groups.values() for name in names}


def spread_tied(network: nn.Module, values: Mapping[str, _T]) -> dict[str, _T]:
    """Return values by name, with a value under one name of a tied tensor under all its names.

    Args:
        network: The network whose names they are; names that it does not have stay as they are.
        values: Such as edited parameters. Where several names of one tensor are given, each keeps its own.
    """
    tied = tied_names(network)
    spread = {other: value for name, value in values.items() for other in tied.get(name, (name,))}
    return spread | dict(values)


def require_own_memory(network: nn.Module, names: Iterable[str]) -> None:
    """Refuse tensors whose numbers other tensors of a network have, too, in another place or order.

    Such are the halves of a matrix that overlap, a matrix and its transpose, or a value that is repeated by
    ``expand``: an edit of the one under its name would change the others in the network, and not where it is tried.

    Args:
        network: The network.
        names: Of the tensors that are to be changed.

    Raises:
        UserError: If there is one.
    """
    by_memory: dict[int, list[tuple[str, Tensor]]] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor) and _has_memory(tensor):
            by_memory.setdefault(tensor.untyped_storage().data_ptr(), []).append((name, tensor))
    wanted = set(names)
    for some in by_memory.values():
        for name, tensor in some:
            if name not in wanted:
                continue
            if any(step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True)):
                raise UserError(
                    f"'{name}' repeats the same numbers in memory, as expand() does, and cannot be edited: give it "
                    "memory of its own, as clone() does"
                )
            for other, second in some:
                if _identity(second) != _identity(tensor) and _overlap(tensor, second):
                    raise UserError(
                        f"'{name}' and '{other}' have numbers in common in another order or place, so that an edit of "
                        "one would change the other: give one of them memory of its own, as clone() does"
                    )


def _has_memory(tensor: Tensor) -> bool:
    """Return whether a tensor's memory tells which it is; that of a tensor around others, such as a shard, does not."""
    if tensor.device.type == "meta" or tensor.numel() == 0 or type(tensor).__name__ == "UninitializedParameter":
        return False
    return tensor.untyped_storage().data_ptr() != 0


def _overlap(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors in the same storage share a number."""
    (start, end), (other_start, other_end) = (_extent(tensor) for tensor in (first, second))
    if end <= other_start or other_end <= start:
        return False
    if first.dtype != second.dtype:
        return True
    return bool(torch.isin(_places_of(first), _places_of(second)).any())


def _extent(tensor: Tensor) -> tuple[int, int]:
    """Return the first byte of a tensor in its storage, and the one behind the last."""
    last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    start = int(tensor.storage_offset())
    return start * tensor.element_size(), (start + int(last) + 1) * tensor.element_size()


def _places_of(tensor: Tensor) -> Tensor:
    """Return the places of a tensor's numbers in its storage, int64."""
    places = torch.tensor(tensor.storage_offset())
    for size, step in zip(tensor.shape, tensor.stride(), strict=True):
        places = places.unsqueeze(-1) + step * torch.arange(size)
    return places.flatten()


def _identity(tensor: Tensor) -> Hashable:
    if not _has_memory(tensor):
        return id(tensor)
    return tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype
