"""The sum over a training step's edits, of which as many are computed together as the device has memory for."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from editable.editing.evaluation.together import Together

__all__ = ["EditsInParts"]

_T = TypeVar("_T")
_Work = Callable[[slice, tuple[Tensor, ...]], tuple[Tensor, _T]]


class EditsInParts:
    """Adds up a scalar over edits that is differentiated later, with the graph of one part of them at a time.

    As long as the memory suffices all edits are one part, whose graph waits for the backward pass as any other. Where
    the device runs out of memory, forward or backward, half as many are computed together from then on, which is said
    once: each part is computed without keeping its graph, and again, with it, in the backward pass. The gradients are
    those of all edits at once up to rounding. All else, such as a loss scaled by Lightning or gradients that processes
    exchange, goes as ever: for whoever differentiates it, the sum is one function of its inputs and leaves.

    Args:
        number: How many edits at once to begin with.
    """

    def __init__(self, number: int) -> None:
        self.together = Together(number, "edits of a training step")

    def sum(
        self, work: _Work[_T], count: int, inputs: tuple[Tensor, ...], leaves: Sequence[Tensor]
    ) -> tuple[Tensor, list[_T]]:
        """Return Σ over the parts of ``count`` edits, a scalar, and what else ``work`` returns for each part.

        Args:
            work: ``work(part, inputs)`` gives the part's share of the sum, and something without a graph. It may be
                called again for the same part, with autocast as it is now.
            count: Number of edits.
            inputs: What ``work`` reads with a graph of its own, such as the features of the batch.
            leaves: All parameters that the sum may depend on besides.

        Raises:
            torch.OutOfMemoryError: If there is no memory for one edit alone.
        """
        pending = _Pending(work, count, inputs, leaves, self.together)
        parts = [found for _, found in self.together.run(pending.look, count)]
        value = torch.stack([share for share, _ in parts]).sum()
        return _Sum.apply(value, pending, *inputs, *leaves), [rest for _, rest in parts]


class _Pending:
    """What the backward pass of one sum needs."""

    def __init__(
        self, work: _Work, count: int, inputs: tuple[Tensor, ...], leaves: Sequence[Tensor], together: Together
    ) -> None:
        self.work, self.count, self.together = work, count, together
        self.inputs = tuple(some.detach().requires_grad_(some.requires_grad) for some in inputs)
        self.sources = [some for some in (*self.inputs, *leaves) if some.requires_grad]
        self.wanted = [some.requires_grad for some in (*self.inputs, *leaves)]
        kind = next((some.device.type for some in self.sources), "cpu")
        self.autocast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
        self.graph: Tensor | None = None  # of the sum over all edits, until it is differentiated

    def look(self, part: slice) -> tuple[Tensor, Any]:
        """Compute a part; keep its graph where it is all."""
        share, rest = self._compute(part)
        self.graph = share if part == slice(0, self.count) else None
        return share.detach(), rest

    def gradients(self, gradient: Tensor) -> list[Tensor | None]:
        """Return the gradients of inputs and leaves, none where the sum does not depend on one."""

        def differentiate(part: slice) -> tuple[Tensor | None, ...]:
            share, self.graph = self.graph, None
            if share is None:
                share, _ = self._compute(part)
            return torch.autograd.grad(share, self.sources, gradient, allow_unused=True)

        total: list[Tensor | None] = [None] * len(self.sources)
        for _, found in self.together.run(differentiate, self.count):
            total = [_added(*pair) for pair in zip(total, found, strict=True)]
        rest = iter(total)
        return [next(rest) if wanted else None for wanted in self.wanted]

    def _compute(self, part: slice) -> tuple[Tensor, Any]:
        kind, dtype, enabled = self.autocast
        with torch.enable_grad(), torch.autocast(kind, dtype, enabled):
            return self.work(part, self.inputs)


class _Sum(torch.autograd.Function):
    """A value whose backward pass is that of a :class:`_Pending`."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, pending: _Pending, *sources: Tensor) -> Tensor:
        ctx.pending = pending
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.pending.gradients(gradients[0])


def _added(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return other if one is None else one if other is None else one + other
