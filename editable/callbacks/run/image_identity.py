"""What a set of images is recognised by: every one of them, how it is prepared, and by which libraries; and files."""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset

from editable.data.images.images import ImageFiles
from editable.data.modules.image_data_module import EvaluationImages

__all__ = ["files_identity", "images_identity"]

LIBRARIES = ("torch", "torchvision", "pillow", "editable")
"""Libraries that decode, resize and compute: another version may give other pixels."""


class _Digest(Protocol):
    def update(self, data: bytes, /) -> object: ...


def images_identity(images: Dataset, positions: Sequence[int] | None = None) -> str:
    """Return a hash of all that some images depend on; two sets of one hash are the same images.

    Of an image in memory, its pixels are hashed; of a file, its path, size and time of change, so that none is decoded.
    Besides, the resizing and normalisation, and the versions of the libraries.

    Args:
        images: The data set; items begin with an image.
        positions: Of the images that are used, in their order; by default all.

    Returns:
        The first 16 hexadecimal digits of a SHA-256.
    """
    digest = hashlib.sha256()
    for library in LIBRARIES:
        digest.update(f"{library} {_version(library)}\n".encode())
    _add(digest, images, range(len(images)) if positions is None else positions)  # type: ignore[arg-type]
    return digest.hexdigest()[:16]


def files_identity(settings: Any, files: Iterable[Path] = ()) -> str:
    """Return a hash of path, size and time of change of each file that settings name, and of further files.

    Args:
        settings: Plain values; those that are no paths of files are left out.
        files: The further files.

    Returns:
        The first 16 hexadecimal digits of a SHA-256.
    """
    digest, folders = hashlib.sha256(), dict[str, str]()
    for file in (*_files_in(settings), *files):
        if file.is_file():  # what nobody looks at may be missing
            path, state = _real(str(file), folders)
            digest.update(f"{path} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _files_in(settings: Any) -> Iterator[Path]:
    if isinstance(settings, dict | list):
        for value in settings.values() if isinstance(settings, dict) else settings:
            yield from _files_in(value)
    elif isinstance(settings, str) and (path := Path(settings).expanduser()).is_file():
        yield path


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "unknown"


def _add(digest: _Digest, images: Any, positions: Sequence[int]) -> None:
    """Add images to a hash, looking through what lies around the stored ones."""
    digest.update(f"{type(images).__name__} {len(positions)}\n".encode())
    if isinstance(images, Subset):
        _add(digest, images.dataset, [images.indices[position] for position in positions])
    elif isinstance(images, EvaluationImages):
        digest.update(f"{images.resize!r} {images.normalise!r}\n".encode())
        _add(digest, images.images, positions)
    elif isinstance(images, ConcatDataset):
        starts = [0, *images.cumulative_sizes]
        for part, start, end in zip(images.datasets, starts, images.cumulative_sizes, strict=False):
            _add(digest, part, [position - start for position in positions if start <= position < end])
    elif isinstance(images, ImageFiles):
        folders: dict[str, str] = {}
        for position, label in zip(positions, images.labels[torch.as_tensor(positions)].tolist(), strict=True):
            path, state = _real(str(images.paths[position]), folders)
            digest.update(f"{path} {state.st_size} {state.st_mtime_ns} {label}\n".encode())
    else:
        for position in positions:
            _add_item(digest, images[position])


def _real(path: str, folders: dict[str, str]) -> tuple[str, os.stat_result]:
    """Return the real path of a file, and its state; real paths of folders, which many files share, are kept."""
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    real, state = os.path.join(folders[folder], name), os.lstat(path)
    return (os.path.realpath(path), os.stat(path)) if stat.S_ISLNK(state.st_mode) else (real, state)


def _add_item(digest: _Digest, item: Any) -> None:
    for value in item if isinstance(item, tuple | list) else (item,):
        if not isinstance(value, Tensor):
            digest.update(f"{value}\n".encode())
            continue
        digest.update(f"{value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
