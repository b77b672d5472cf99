"""Matrix products with a weight that many of them share: its gradient is one product at the end, not one for each."""

from typing import Any

import torch
from torch import Tensor

from editable.models.machine.product import product

__all__ = ["DeferredWeight"]


class DeferredWeight:
    """A weight matrix W that many products W x, in a graph that is differentiated twice, have in common.

    The gradient of W is Σ g xᵀ over all products, those of the first backward pass included. Instead of making and
    adding a matrix as large as W for each, the factors are collected, and multiplied once when all are there. The inner
    gradients of an unrolled edit, taken with ``create_graph=True``, must not ask for W; the outer one may, once the
    graph is complete, and must not create a graph itself.

    Args:
        weight: W, [f, c], requiring a gradient; a view of a parameter, say.

    Example:
        >>> weight = torch.tensor([[2.0, 1.0]], requires_grad=True)
        >>> deferred, x = DeferredWeight(weight), torch.tensor([[3.0], [4.0]])
        >>> torch.autograd.grad(deferred.product(x) + deferred.product(10 * x), weight)
        (tensor([[33., 44.]]),)
    """

    def __init__(self, weight: Tensor) -> None:
        self.value = weight.detach()
        self.factors: dict[int, list[tuple[Tensor, Tensor]]] = {}  # by backward pass
        self.token = _Collect.apply(weight, self)

    def product(self, x: Tensor) -> Tensor:
        """Return W x, [f, n], for x [c, n], in the precision of W, whatever autocast says."""
        return _Product.apply(x.to(self.value.dtype), self.token, self, False)

    def collect(self, left: Tensor, right: Tensor) -> None:
        """Keep the factors of one term ``left @ rightᵀ`` of the gradient, in the present backward pass."""
        self.factors.setdefault(torch._C._current_graph_task_id(), []).append((left, right))

    def gradient(self) -> Tensor | None:
        """Return the gradient of W from all terms of the present backward pass."""
        terms = self.factors.pop(torch._C._current_graph_task_id(), [])
        self.factors.clear()  # of passes that did not ask for W
        if not terms:
            return None
        left, right = (torch.cat(factors, dim=1) for factors in zip(*terms, strict=True))
        return product(left, right.t())


class _Collect(torch.autograd.Function):
    """Stands between W and its products: its backward runs when that of every product has run."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, deferred: DeferredWeight) -> Tensor:
        ctx.deferred = deferred
        return weight.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:
        if torch.is_grad_enabled():
            raise NotImplementedError("the gradient of a shared weight cannot itself be differentiated")
        return ctx.deferred.gradient(), None


class _Product(torch.autograd.Function):
    """W x or Wᵀ x, differentiable with respect to x any number of times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Tensor, deferred: DeferredWeight, transposed: bool) -> Tensor:
        ctx.save_for_backward(x, token)
        ctx.deferred, ctx.transposed = deferred, transposed
        with torch.autocast(x.device.type, enabled=False):
            return product(deferred.value.t() if transposed else deferred.value, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        (gradient,) = gradients
        x, token = ctx.saved_tensors
        if not torch.is_grad_enabled():
            ctx.deferred.collect(*((x, gradient) if ctx.transposed else (gradient, x)))
        back = _Product.apply(gradient, token, ctx.deferred, not ctx.transposed) if ctx.needs_input_grad[0] else None
        return back, torch.zeros_like(token), None, None
