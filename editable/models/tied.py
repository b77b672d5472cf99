"""Tensors that a network holds under several names: they are one, and what is written under one name is under all."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

from torch import Tensor, nn

__all__ = ["spread_tied", "tied_names"]

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


def _identity(tensor: Tensor) -> Hashable:
    if tensor.device.type == "meta" or tensor.numel() == 0 or type(tensor).__name__ == "UninitializedParameter":
        return id(tensor)
    return tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype
