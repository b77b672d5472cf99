"""Whether a traced network is the network: both on the first inputs, and what makes them differ."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from editable.models.logits import logits_of, say_what_is_taken
from editable.models.split.modes import evaluation_mode

__all__ = ["disagreement"]

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Of the largest difference of logits, relative to the largest logit and at least to 1; 0.05 in lower precision."""

ROWS = 2


def disagreement(network: nn.Module, traced: Callable[[Tensor], Tensor], x: Tensor) -> str | None:
    """Compare a network's plain forward with its traced form, in evaluation mode, bit for bit.

    Where bits differ, differences up to :data:`TOLERANCE` are taken for another order of additions. The network is left
    as it was, buffers that its forward writes included.

    Args:
        network: The network.
        traced: From inputs to logits.
        x: Inputs [N, …], of which the first two are looked at; none are compared inside of a functorch transform.

    Returns:
        Why they differ, in words; None where they agree.
    """
    if torch._C._functorch.is_functorch_wrapped_tensor(x) or not len(x):
        return None
    some = x[:ROWS].detach()
    with torch.no_grad(), evaluation_mode(network), _kept_buffers(network) as before:
        output = network(some.clone())
        say_what_is_taken(network, output)
        plain = logits_of(output)
        changed = [name for name, buffer in network.named_buffers() if not _equal(buffer, before[name])]
        if changed:
            return f"its forward writes into its buffer {changed[0]!r}"
        ours = traced(some)
        if not isinstance(ours, Tensor) or plain.shape != ours.shape:
            return f"its output is {_described(plain)}, the traced one's {_described(ours)}"
        if _equal(plain, ours) or _is_near(plain, ours):
            return None
        if not _is_near(logits_of(network(some.clone())), plain):
            return "its forward gives other values each time"
    return f"{_cause(network)}; logits differ by up to {(plain - ours).abs().max().item():.3g}"


@contextmanager
def _kept_buffers(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        yield before
    finally:
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                if name in before and not _equal(buffer, before[name]):
                    buffer.copy_(before[name])


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(torch.isclose(one, other, rtol=0, atol=0, equal_nan=True).all())


def _is_near(one: Tensor, other: Tensor) -> bool:
    scale = max(1.0, other[other.isfinite()].abs().max().item()) if other.isfinite().any() else 1.0
    tolerance = TOLERANCE.get(other.dtype, 0.05) * scale
    return bool(torch.isclose(one, other, rtol=0, atol=tolerance, equal_nan=True).all())


def _cause(network: nn.Module) -> str:
    """Return what in a network tracing is known not to see."""
    for name, module in network.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            return f"{repr(name) if name else 'the network itself'} has a hook"
    for name, module in network.named_modules():
        code = getattr(type(module).forward, "__code__", None)
        if code is not None and "autocast" in code.co_names:
            return f"the forward of {repr(name) if name else 'the network itself'} uses autocast"
    return "its forward does something that tracing does not see"


def _described(output: object) -> str:
    return f"of shape {list(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
