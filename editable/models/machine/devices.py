"""Working on a device without waiting for it: copies to it, and how often a loop looks at what it has computed."""

import torch
from torch import Tensor

__all__ = ["budget_in_bytes", "free_bytes", "steps_between_looks", "to_device"]

GIB = 2**30
HOST_BUDGET = 4 * GIB

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
        dense = tensor.clone() if 0 in tensor.stride() else tensor  # what is expanded cannot be pinned
        pinned = dense if dense.is_pinned() else dense.pin_memory()
        tensor = pinned.to(device, non_blocking=True)
    return tensor.to(device, dtype or tensor.dtype)


def free_bytes(device: torch.device) -> int | None:
    """Return how much memory a CUDA device has left; none of others, whose memory other programs share."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def budget_in_bytes(device: torch.device, gibibytes: float | None) -> int:
    """Return a budget for what is kept on a device.

    Args:
        device: Where it is kept.
        gibibytes: What was asked for; none stands for half of what a CUDA device has left, and for 4 GiB elsewhere.
    """
    if gibibytes is not None:
        return int(gibibytes * GIB)
    free = free_bytes(device)
    return HOST_BUDGET if free is None else free // 2


def steps_between_looks(device: torch.device) -> int:
    """Return after how many steps a loop looks at its losses: on the CPU each, where a look costs nothing."""
    return 1 if device.type == "cpu" else LOOK_EVERY
