"""Products of two matrices by the library that is faster on this processor."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from editable.models.machine.precision import processor, processor_name

__all__ = ["batched_product", "product"]

LEAST = 2**20
"""Multiplications from which on oneDNN is faster: a call takes 15 µs more than one of MKL's, and each takes half."""


def product(left: Tensor, right: Tensor) -> Tensor:
    """Return ``left @ right`` for two matrices, differentiable any number of times.

    torch multiplies float32 by MKL, which leaves AVX-512 unused where its own maker's name is not on the processor, and
    so takes twice as long as oneDNN there; on a processor of its maker it takes up to 40 % less. Where oneDNN is not
    faster, or does not apply, this is ``@``.

    Args:
        left: [m, k].
        right: [k, n].
    """
    if not _is_for_onednn(left, right):
        return left @ right
    if torch.is_grad_enabled() and (left.requires_grad or right.requires_grad):
        return _Product.apply(left, right)
    return _by_onednn(left, right)


def batched_product(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """Return ``torch.bmm(left, right)``, in ``out`` if that is given; by oneDNN where no gradient is asked for.

    Args:
        left: [b, m, k].
        right: [b, k, n].
        out: [b, m, n].
    """
    if (torch.is_grad_enabled() and (left.requires_grad or right.requires_grad)) or not _is_for_onednn(left, right):
        return torch.bmm(left, right, out=out)
    out = left.new_empty(*left.shape[:2], right.shape[2]) if out is None else out
    for one, first, second in zip(out, left, right, strict=True):
        one.copy_(_by_onednn(first, second))
    return out


@cache
def _onednn_is_faster() -> bool:
    return (
        torch.backends.mkldnn.is_available() and processor().startswith("AVX-512") and "Intel" not in processor_name()
    )


def _is_for_onednn(left: Tensor, right: Tensor) -> bool:
    """Return whether the product of matrices, or of batches of them, is large, and plain float32 on a fit processor."""
    if left.shape[-2:].numel() * right.shape[-1] < LEAST or torch.is_autocast_enabled("cpu"):
        return False
    return _onednn_is_faster() and _is_plain(left) and _is_plain(right) and not torch.compiler.is_compiling()


def _is_plain(some: Tensor) -> bool:
    plain = some.dtype == torch.float32 and some.device.type == "cpu" and some.numel() > 0
    return plain and type(some) in (Tensor, Parameter) and not torch._C._functorch.is_functorch_wrapped_tensor(some)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return _by_onednn(left, right)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (gradient,), (left, right) = gradients, ctx.saved_tensors
        return (
            product(gradient, right.t()) if ctx.needs_input_grad[0] else None,
            product(left.t(), gradient) if ctx.needs_input_grad[1] else None,
        )


def _by_onednn(left: Tensor, right: Tensor) -> Tensor:
    """Multiply by the op that torch's compiler takes for linear layers, ``x, w -> x @ w.t()``.

    A left matrix whose columns lie together is slow, so that the transposed product is made.
    """
    multiply = torch.ops.mkldnn._linear_pointwise
    if left.stride(0) == 1 and left.shape[1] > 1:
        return multiply(right.t(), left, None, "none", [], "").t()
    return multiply(left, right.t(), None, "none", [], "")
