"""Prefix features of many images, kept in memory while they fit, else in a file on disk that is mapped into memory."""

import errno
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from editable.errors import UserError, require_at_least, require_whole
from editable.models import Features
from editable.models.machine.devices import free_bytes, to_device

__all__ = ["FeatureStore"]

GIB = 2**30
Kind: TypeAlias = tuple[torch.Size, torch.dtype]  # of a row of a feature

DISK_MARGIN = GIB // 4
"""Bytes that a map leaves free on its disk, for whoever else writes there."""


class FeatureStore:
    """Keeps a row of features and a label for each of up to N images; gives back batches in order, or any rows.

    The first :meth:`add` shows how large a row is: space for all N rows is taken then, at once, on the device if the
    features fit the memory budget, and what a CUDA device has left, else on disk. What comes back has the very bits
    that were added and lies on the device. Batches are views of the store, copied only from a map to another device:
    do not write to them. Labels always stay in memory and do not count.

    Where the operating system allows it (Linux, macOS), the file has no name from the moment it is mapped, so that not
    even a killed process leaves it behind; elsewhere it is removed by :meth:`close`, garbage collection, or the
    interpreter's exit. Its space is free again once the store is closed and no view of it lives.

    Args:
        num_rows: N, the largest number of rows.
        memory_budget: In bytes; features of N rows of exactly this size still fit.
        device: Where features and labels come out.
        folder: Where the map lies if there is one; None stands for the system's temporary folder, which on some
            systems is itself held in memory.
        memory_format: How features [n, C, H, W] come out: ``torch.contiguous_format`` or ``torch.channels_last``.
            Features of other ranks are contiguous.

    Attributes:
        nbytes: Bytes that the features of all N rows take; 0 before the first :meth:`add`.
        spilled: Whether the features lie on disk; False before the first :meth:`add`.

    Raises:
        UserError: If a number is below 0, or the memory format another.

    Example:
        >>> with FeatureStore(3, memory_budget=2**30, device=torch.device("cpu")) as store:
        ...     store.add((torch.ones(3, 8, 2, 2),), torch.tensor([0, 1, 2]))
        ...     [len(labels) for features, labels in store.batches(2)]
        [2, 1]
    """

    def __init__(
        self,
        num_rows: int,
        memory_budget: int,
        device: torch.device,
        folder: Path | None = None,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        require_at_least(0, num_rows=num_rows)
        require_whole(0, 2**63 - 1, memory_budget=memory_budget)  # in bytes
        if memory_format not in (torch.contiguous_format, torch.channels_last):
            raise UserError(f"memory_format must be contiguous_format or channels_last, got {memory_format}")
        self.num_rows, self.memory_budget, self.device, self.folder = num_rows, memory_budget, device, folder
        self._channels_last = memory_format == torch.channels_last
        self.nbytes, self.spilled = 0, False
        self._length = 0
        self._kinds: list[Kind] | None = None
        self._stored: Features = ()  # features [N, C, H, W] as [N, H, W, C] where they come out channels last
        self._labels = torch.empty(num_rows, dtype=torch.int64, device=device)
        self._directory: tempfile.TemporaryDirectory | None = None
        self._closed = False

    def add(self, features: Features, labels: Tensor) -> None:
        """Store the next n rows.

        Args:
            features: Each of shape [n, …], with the same row shapes and dtypes each time, on any device.
            labels: Integers [n], on any device.

        Raises:
            UserError: If there are more rows than announced, rows differ from earlier ones, or the disk has no room.
            ValueError: If the store is closed.
        """
        self._require_open()
        size = len(labels)
        if any(len(feature) != size for feature in features):
            raise UserError(f"{size} labels need as many rows of features, got {[len(rows) for rows in features]}")
        if self._length + size > self.num_rows:
            raise UserError(f"room for {self.num_rows} rows was asked for, got at least {self._length + size}")
        kinds = [(feature.shape[1:], feature.dtype) for feature in features]
        if self._kinds is None:
            self._allocate(kinds)
            self._kinds = kinds
        elif kinds != self._kinds:
            raise UserError(f"rows of features must stay {_describe(self._kinds)}, got {_describe(kinds)}")
        for stored, feature in zip(self._stored, features, strict=True):
            self._outward(stored[self._length : self._length + size]).copy_(feature.detach())
        self._labels[self._length : self._length + size] = to_device(labels, self.device)
        self._length += size

    def __len__(self) -> int:
        return self._length

    @property
    def labels(self) -> Tensor:
        """Labels of the rows so far, int64 [n], on the device."""
        return self._labels[: self._length]

    def batches(self, size: int) -> Iterator[tuple[Features, Tensor]]:
        """Return features, each [size, …] (the last ones fewer), and labels [size] of all rows, in order.

        Raises:
            UserError: If the size is below 1.
            ValueError: If the store is closed.
        """
        self._require_open()
        require_at_least(1, size=size)
        everything, labels = self._stored, self.labels
        slices = (slice(start, min(start + size, len(labels))) for start in range(0, len(labels), size))
        return ((self._come_out(stored[rows] for stored in everything), labels[rows]) for rows in slices)

    def rows(self, indices: Tensor) -> tuple[Features, Tensor]:
        """Copy some rows, in the order asked for; of a map, only these are read.

        Args:
            indices: Positions of rows, int64 [n], on any device; they may repeat.

        Returns:
            Features, each [n, …], and labels [n].

        Raises:
            IndexError: If an index is below 0 or not below the number of rows so far.
            ValueError: If the store is closed.
        """
        self._require_open()
        if len(indices):
            least, most = torch.stack(indices.aminmax()).tolist()
            if least < 0 or most >= self._length:
                raise IndexError(f"the store has {self._length} rows, got indices from {least} to {most}")
        places = indices.cpu() if self.spilled else to_device(indices, self.device)
        features = self._come_out(stored.index_select(0, places) for stored in self._stored)
        return features, self._labels[to_device(indices, self.device)]

    def close(self) -> None:
        """Let go of memory and disk; closing twice is allowed."""
        self._closed = True
        self._stored = ()
        if self._directory is not None:
            self._directory.cleanup()

    def __enter__(self) -> "FeatureStore":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError("the feature store is closed")

    def _outward(self, stored: Tensor) -> Tensor:
        """View rows as they come out: [n, H, W, C] as [n, C, H, W] where they are stored channels last."""
        return stored.permute(0, 3, 1, 2) if self._channels_last and stored.dim() == 4 else stored

    def _come_out(self, parts: Iterable[Tensor]) -> Features:
        return tuple(self._outward(to_device(part, self.device)) for part in parts)

    def _allocate(self, kinds: list[Kind]) -> None:
        """Take space for all rows, each feature in the order in which it is stored."""
        shapes = [self._stored_shape(row) for row, _ in kinds]
        dtypes = [dtype for _, dtype in kinds]
        self.nbytes = sum(math.prod(shape) * dtype.itemsize for shape, dtype in zip(shapes, dtypes, strict=True))
        free = free_bytes(self.device)
        self.spilled = self.nbytes > self.memory_budget or (free is not None and self.nbytes > free)
        if self.spilled:
            self._stored = self._map(shapes, dtypes)
        else:
            self._stored = tuple(
                torch.empty(shape, dtype=dtype, device=self.device) for shape, dtype in zip(shapes, dtypes, strict=True)
            )

    def _stored_shape(self, row: torch.Size) -> tuple[int, ...]:
        if self._channels_last and len(row) == 3:
            channels, height, width = row
            return self.num_rows, height, width, channels
        return self.num_rows, *row

    def _map(self, shapes: list[tuple[int, ...]], dtypes: list[torch.dtype]) -> Features:
        """Map one file for each feature into memory."""
        parent = Path(self.folder or tempfile.gettempdir())
        try:
            room = shutil.disk_usage(parent).free
            if self.nbytes + DISK_MARGIN > room:
                raise OSError(errno.ENOSPC, f"{room / GIB:.2f} GiB are free, {DISK_MARGIN / GIB} of them must stay so")
            # Windows cannot remove the file of a map of which a view still lives
            self._directory = tempfile.TemporaryDirectory(
                prefix="editable-features-", dir=parent, ignore_cleanup_errors=True
            )
            try:
                paths = [Path(self._directory.name, str(number)) for number in range(len(shapes))]
                return tuple(map(_mapped, paths, shapes, dtypes))
            finally:
                if os.name == "posix":  # a mapped file needs no name, and without one no kill can leave it behind
                    self._directory.cleanup()
        except OSError as error:
            raise UserError(
                f"features of {self.num_rows} images need {self.nbytes / GIB:.2f} GiB, more than the memory budget of "
                f"{self.memory_budget / GIB:.2f} GiB or what the device has left, and cannot be kept on disk in "
                f"{parent} ({error.strerror}): "
                "raise the memory budget, or choose a folder with more room"
            ) from error


def _mapped(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Map a new file into memory, with its space reserved: writing to a map on a full disk would kill the process."""
    size = math.prod(shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, size * dtype.itemsize))
    return torch.from_file(str(path), shared=True, size=size, dtype=dtype).view(shape)


def _describe(kinds: list[Kind]) -> str:
    return ", ".join(f"{list(row)} of {dtype}" for row, dtype in kinds) or "nothing"
