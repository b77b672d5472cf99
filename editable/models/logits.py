"""Logits out of what a network returns: a tensor, or a tuple, dict or object that holds them."""

import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from editable.errors import UserError

__all__ = ["logits_of", "require_logits", "require_num_classes", "say_what_is_taken"]

NAMES = ("logits", "output", "out", "pred")
"""Keys of a dict, or attributes of an object, that hold logits; the first that is there is taken."""


def logits_of(output: Any) -> Tensor:
    """Return the logits in a network's output.

    A tensor is taken as it is; of a dict or an object, such as those of ``transformers``, what is called ``logits`` (or
    ``output``, ``out``, ``pred``), or its only tensor; of a tuple or list, the first tensor. The same is done to the
    values that ``torch.fx`` traces.

    Args:
        output: What the network's forward has returned.

    Raises:
        UserError: If there are no such logits.

    Example:
        >>> logits_of({"loss": None, "logits": torch.zeros(1, 3)}).shape
        torch.Size([1, 3])
    """
    return _taken(output)[0]


def say_what_is_taken(network: Any, output: Any) -> None:
    """Warn, if a network's output is no tensor, which part of it is taken for the logits."""
    if not isinstance(output, Tensor | fx.Proxy):
        warnings.warn(
            f"{type(network).__name__} returns a {type(output).__name__}: {_taken(output)[1]} is taken for the logits",
            UserWarning,
            stacklevel=1,  # one place for all callers: said once
        )


def require_logits(logits: Tensor, num_images: int) -> None:
    """Raise a :class:`UserError` unless a network's output has the shape of logits, [N, classes].

    Args:
        logits: What :func:`logits_of` has returned.
        num_images: N.
    """
    if logits.ndim != 2 or logits.shape[0] != num_images or not logits.shape[1]:
        raise UserError(
            f"the network's output is {list(logits.shape)} for {num_images} image{'s' * (num_images != 1)}, but a "
            f"classifier's logits are [{num_images}, classes]: make it return one logit of each class for each image"
        )
    if not logits.is_floating_point():
        raise UserError(f"the network's output is of type {logits.dtype}, but logits are floating-point numbers")


def require_num_classes(num_classes: int, expected: int) -> None:
    """Raise a :class:`UserError` unless a network has as many logits as the data have classes."""
    if expected != num_classes:
        raise UserError(
            f"the data have {expected} classes, but the network has {num_classes}: make the network with "
            f"num_classes={expected}"
        )


def _taken(output: Any) -> tuple[Any, str]:
    """Return the logits, and which part of the output they are."""
    if _is_tensor(output):
        return output, "its output"
    held = output if isinstance(output, Mapping) else getattr(output, "__dict__", {})
    for name in NAMES:
        value = held.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if _is_tensor(value):
            return value, f"its {name!r}"
    if isinstance(output, tuple | list):
        found = [(index, value) for index, value in enumerate(output) if _is_tensor(value)]
        if found:
            return found[0][1], f"its element {found[0][0]}, of {len(output)},"
    alone = [(name, value) for name, value in held.items() if _is_tensor(value)]
    if len(alone) == 1:
        return alone[0][1], f"its {alone[0][0]!r}"
    inside = f" with {', '.join(map(repr, list(held)[:5]))}" if held else ""
    raise UserError(
        f"the network returns a {type(output).__name__}{inside}, in which no logits are found: make it return a "
        "tensor, or call them 'logits'"
    )


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor | fx.Proxy)
