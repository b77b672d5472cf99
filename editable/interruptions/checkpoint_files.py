"""Checkpoints in files that are whole at every moment, whatever file system they lie on."""

from pathlib import Path
from typing import Any

import torch
from fsspec.utils import get_protocol
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from editable.atomic import remove_leftovers, write_atomically

__all__ = ["WholeCheckpoints"]


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place, brings it to the disk, and renames it.

    Lightning's own writer goes through the system's temporary folder: where that is another file system, it copies from
    there into the old checkpoint, and a process that ends meanwhile leaves less than one. Addresses of object stores,
    ``s3://…``, are left to Lightning.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint, whole or not at all.

        Args:
            checkpoint: What ``torch.save`` takes.
            path: The file; an existing one is replaced.
            storage_options: Not taken, as by Lightning's own.

        Raises:
            UserError: If no space is left; the old file stays as it is.
        """
        if storage_options is not None or get_protocol(str(path)) not in ("file", "local"):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with write_atomically(_local(path)) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint, and remove what a killed writer of it has left beside."""
        if get_protocol(str(path)) in ("file", "local"):
            remove_leftovers(_local(path))
        return super().load_checkpoint(path, *args, **kwargs)


def _local(path: str | Path) -> Path:
    return Path(str(path).removeprefix("file://").removeprefix("local://"))
