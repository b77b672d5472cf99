"""A stand-in for CUDA graphs: what is computed while one is recorded, a replay computes again, in the same memory.

It is as strict as a card: recording refuses what waits for the device or copies to it, and leaves nothing behind, as
kernels are only noted. Tensors that are made meanwhile hold NaN until a replay, so that results which are not written
into the caller's own tensors by a replay show. It records on the CPU too.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["CUDAGraph", "graph"]

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "item", "is_nonzero")


class CUDAGraph(TorchDispatchMode):
    """In the place of ``torch.cuda.CUDAGraph``."""

    def __init__(self, keep_graph: bool = False) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], tuple, dict, Any]] = []
        self.made: dict[int, Tensor] = {}  # by storage, what lies in memory of the graph's own
        self.before: dict[int, tuple[Tensor, Tensor]] = {}  # by storage, other memory that is written, and what it held

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ in WAITS or torch.Tag.nondeterministic_seeded in func.tags:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        given = tensors_of((args, kwargs))
        for name, value in [*zip((some.name for some in func._schema.arguments), args, strict=False), *kwargs.items()]:
            argument = next(some for some in func._schema.arguments if some.name == name)
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._keep(tensors_of(value))
        out = func(*args, **kwargs)
        found = tensors_of(out)
        if len({some.device.type for some in [*given, *found] if some.ndim}) > 1:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func} from another device")
        own = {place_of(some) for some in given}
        self.made |= {place_of(some): some for some in found if place_of(some) not in own}
        self.calls.append((func, args, kwargs, out))
        return out

    def _keep(self, written: list[Tensor]) -> None:
        for some in written:
            if place_of(some) not in self.made and place_of(some) not in self.before:
                whole = torch.empty(0, dtype=some.dtype, device=some.device).set_(some.untyped_storage())
                self.before[place_of(some)] = (whole, whole.clone())

    def forget(self) -> None:
        """Undo what recording has written, and spoil what it has made."""
        with torch.no_grad():
            for whole, value in self.before.values():
                whole.copy_(value)
            for some in self.made.values():
                if some.is_floating_point():
                    some.detach().fill_(torch.nan)

    def replay(self) -> None:
        """Compute all again."""
        with torch.no_grad():
            for func, args, kwargs, out in self.calls:
                given = {place_of(some) for some in tensors_of((args, kwargs))}
                own = [some for some in tensors_of(out) if place_of(some) not in given]
                if own or func._schema.is_mutable:
                    again = func(*args, **kwargs)
                    for kept, value in zip(tensors_of(out), tensors_of(again), strict=True):
                        if place_of(kept) not in given:
                            kept.detach().copy_(value)

    def reset(self) -> None:
        """Forget all."""
        self.calls.clear()


class graph:
    """In the place of ``torch.cuda.graph``."""

    def __init__(self, cuda_graph: CUDAGraph, *_: Any, **__: Any) -> None:
        self.graph = cuda_graph

    def __enter__(self) -> None:
        self.graph.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.graph.__exit__(*error)
        self.graph.forget()


def tensors_of(tree: Any) -> list[Tensor]:
    return [some for some in tree_leaves(tree) if isinstance(some, Tensor)]


def place_of(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
