"""Which files of a folder are images: every folder visited once, hidden ones left out, and what is left out said."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from editable.data.classes import name_key
from editable.data.images.packed_names import PackedNames
from editable.errors import UserError

__all__ = ["ListedImages", "list_class_images", "list_images", "named_path", "subfolders"]


@dataclass
class ListedImages:
    """The images below a folder, in torchvision's order, and what else lies there.

    Attributes:
        paths: Of the images: folder by folder, sorted by name.
        left_out: Files of other formats, of which none is hidden.
    """

    paths: list[Path] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)

    def say_left_out(self, folder: Path) -> None:
        """Warn, once for a folder, of files that were left out."""
        if not self.left_out:
            return
        endings = Counter(path.suffix.lower() or "no ending" for path in self.left_out)
        counts = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(4))
        rank_zero_warn(
            f"{len(self.left_out)} files below {folder} are left out, such as {self.left_out[0].name} ({counts}): "
            f"images are read from files that end in {', '.join(IMG_EXTENSIONS)}"
        )


def subfolders(folder: Path) -> list[str]:
    """Return the names of a folder's sub-folders, sorted; hidden ones are none.

    Raises:
        UserError: If a name is no text, or two are one name in Unicode's several ways to write it.
    """
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    for name in names:
        if not _is_text(name):
            raise UserError(f"The name of the folder {name!r} in {folder} is no text in UTF-8: rename it.")
    for first, second in pairwise(sorted(names, key=name_key)):
        if name_key(first) == name_key(second):
            raise UserError(f"{folder} has two folders called {first}, in two ways to write it: put them together.")
    return names


def named_path(folder: Path, name: str) -> Path:
    """Return where a name lies in a folder, sub-folder and all; accents may be written in another of Unicode's ways.

    Args:
        folder: Where to look.
        name: Of a file or folder there, with ``/`` between.

    Returns:
        Its path as the file system has it; where there is none, as it was asked for.
    """
    path = folder / name
    if os.path.lexists(path) or name.isascii():
        return path
    for part in Path(name).parts:
        found = folder / part
        if not os.path.lexists(found) and folder.is_dir():
            found = next((some for some in folder.iterdir() if name_key(some.name) == name_key(part)), found)
        folder = found
    return folder


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def list_images(folder: Path, seen: set[str] | None = None) -> ListedImages:
    """List the images of a folder and of all folders below it, also behind links; a folder is visited once.

    Hidden files and folders, whose names begin with a dot, are left out unsaid, as their owner has hidden them.

    Args:
        folder: where to look.
        seen: real paths of folders that are not to be visited again; those visited are added.

    Raises:
        UserError: If a folder cannot be read.
    """
    listed = ListedImages()
    for root, files in _walk(folder, set() if seen is None else seen):
        for name in files:
            (listed.paths if _is_image(name) else listed.left_out).append(Path(root, name))
    return listed


def list_class_images(folder: Path, classes: Sequence[str]) -> tuple[PackedNames, Tensor]:
    """List the images of ``<folder>/<class>/``, and say what was left out; no file is looked at.

    Args:
        folder: The folder.
        classes: Names of the class folders; the position is the label. One that is not there has no image.

    Returns:
        Names of the images in the folder, ``<class>/<file>``, class by class in torchvision's order, and the label of
        each, int64.

    Raises:
        UserError: If two class folders are links to the same one.
    """
    owners: dict[str, str] = {}
    places = [named_path(folder, name) for name in classes]
    for name, place in zip(classes, places, strict=True):
        real = os.path.realpath(place)
        if place.is_dir() and real in owners:
            raise UserError(f"The class folders {owners[real]} and {name} of {folder} are one and the same folder.")
        owners[real] = name
    seen, left_out, counts = set(owners), list[Path](), [0] * len(classes)

    def names() -> Iterator[str]:
        for label, place in enumerate(places):
            for root, files in _walk(place, seen) if place.is_dir() else ():
                below = Path(root).relative_to(folder).as_posix()
                for name in files:
                    if _is_image(name):
                        counts[label] += 1
                        yield f"{below}/{name}"
                    else:
                        left_out.append(Path(root, name))

    packed = PackedNames(names())
    ListedImages(left_out=left_out).say_left_out(folder)
    return packed, torch.arange(len(classes)).repeat_interleave(torch.tensor(counts, dtype=torch.int64))


def _walk(folder: Path, seen: set[str]) -> list[tuple[str, list[str]]]:
    """Return the folders below one, each with the names of its files, in torchvision's order.

    Args:
        folder: Where to look.
        seen: Real paths of folders that are not to be visited again; those visited are added.

    Raises:
        UserError: If a folder cannot be read.
    """
    visited: list[tuple[str, list[str]]] = []
    for root, names, files in os.walk(folder, followlinks=True, onerror=_refuse_unreadable):
        seen.add(os.path.realpath(root))
        names[:] = [
            name
            for name in sorted(names)
            if not name.startswith(".") and _is_new(os.path.realpath(os.path.join(root, name)), seen)
        ]
        visited.append((root, sorted(name for name in files if not name.startswith("."))))
    return sorted(visited)


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMG_EXTENSIONS)


def _refuse_unreadable(error: OSError) -> None:
    """Raise for a folder that :func:`os.walk` would leave out."""
    raise UserError(
        f"The folder {error.filename} cannot be read ({error.strerror}): allow it, or remove it."
    ) from error


def _is_new(real: str, seen: set[str]) -> bool:
    if real in seen:
        return False
    seen.add(real)
    return True
