"""A fingerprint of tensors, by which results are known to belong to the same weights or the same images."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["fingerprint"]


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of names, types, shapes and values, the same on every device and in every memory layout.

    Args:
        tensors: Such as a network's ``state_dict()``; their order does not matter, and what is no tensor is left out.

    Returns:
        The first 16 hexadecimal digits of a SHA-256.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        if not isinstance(tensor, Tensor):
            continue
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
