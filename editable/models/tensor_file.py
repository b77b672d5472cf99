"""Tensors and texts in one file, which is known to be as it was written."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from editable.atomic import write_atomically
from editable.models.fingerprint import fingerprint

__all__ = ["read_tensors", "write_tensors"]

DIGEST = "editable.digest"


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Args:
        path: An existing file is replaced.
        tensors: On any device, in any memory layout.
        texts: What goes with them; their digest is added.
    """
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with write_atomically(path) as temporary:
        save_file(own, temporary, {**texts, DIGEST: _digest(own, texts)})


def read_tensors(path: str | Path, sealed: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what :func:`write_tensors` has left.

    Args:
        path: The file.
        sealed: Whether it must have a digest; others may have written it otherwise, or it may be from before there were
            any.

    Returns:
        The tensors, on the CPU, in memory of their own, whatever becomes of the file; and the texts.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no safetensors file, or is not as it was written.
    """
    try:
        with safe_open(path, framework="pt") as file:
            texts = dict(file.metadata() or {})
            tensors: dict[str, Tensor] = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"it is no complete safetensors file: {error}") from error
    digest = texts.pop(DIGEST, None)
    if (sealed or digest is not None) and digest != _digest(tensors, texts):
        raise ValueError("it is not as it was written")
    return tensors, texts


def _digest(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    """Return what a file is known by: a wrong figure in it would be found nowhere else."""
    bytes_of_texts = {
        f"text {name}": torch.tensor(list(text.encode()), dtype=torch.uint8) for name, text in texts.items()
    }
    return fingerprint({**tensors, **bytes_of_texts})
