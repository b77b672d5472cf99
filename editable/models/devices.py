"""Working on a device without waiting for it: copies to it, and how often a loop looks at what it has computed."""

import torch
from torch import Tensor

__all__ = ["steps_between_looks", "to_device"]

LOOK_EVERY = 16
"""Steps of a loop on an accelerator between two looks at its figures. Each costs what a step costs to start, so that
one in 16 is a few per cent; what was to end ends at most 15 steps late."""


def to_device(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Return a tensor on a device and in a precision; a copy to a CUDA device from the CPU is not waited for.

    It goes through pinned memory, for which the device doesn't stop, and is converted there.

    Args:
        tensor: Of any device.
        device: Where it is wanted.
        dtype: By default its own.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
        tensor = pinned.to(device, non_blocking=True)
    return tensor.to(device, dtype or tensor.dtype)


def steps_between_looks(device: torch.device) -> int:
    """Return after how many steps a loop looks at its losses: on the CPU each, where a look costs nothing."""
    return 1 if device.type == "cpu" else LOOK_EVERY
