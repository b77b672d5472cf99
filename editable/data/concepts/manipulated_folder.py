"""A set of manipulated images as an image folder, with a manifest that says what was done to each."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from editable.atomic import write_atomically
from editable.data.classes import class_labels
from editable.data.images.images import ImageFiles
from editable.data.images.listing import named_path
from editable.errors import UserError
from editable.text_files import read_json

__all__ = ["ManipulatedImage", "load_manipulated_folder", "read_manifest", "save_manipulated_folder"]

MANIFEST = "manifest.json"


class ManipulatedImage(NamedTuple):
    """An image with a new concept in place of an old one, and what is needed to make it again."""

    image: Tensor
    """Float ``[3, H, W]`` in [0, 1]."""

    class_name: str
    """The class folder that the image belongs in."""

    name: str
    """The file's name there, without ending."""

    source: str
    """The image that it was made from."""

    mask: str
    """Where the mask of the old concept came from."""

    texture: str
    """The image that the new concept came from."""

    seed: int | None
    """The seed of this image's manipulation; ``None`` where nothing was random."""

    share: float | None = None
    """Part of the image that the mask covers, from 0 to 1; ``None`` where nobody has measured it."""


def save_manipulated_folder(
    folder: str | Path, images: Iterable[ManipulatedImage], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Write ``folder/<class>/<name>.png``, and ``folder/manifest.json`` when all images are there.

    Images are taken one by one, so any number of them fits in memory. Values are rounded to 8 bits. A file is written
    whole or not at all, and a folder with a manifest is complete. There is no time, machine or version in the files:
    the same images give the same bytes.

    Args:
        folder: a new or empty folder.
        images: the images.
        settings: how they were made, as far as all of them have it in common: plain values for the manifest.

    Returns:
        The manifest: ``settings``, and ``images``, a list of ``file``, ``class``, ``source``, ``mask``, ``texture``,
        ``seed`` and, where it is known, ``share``.

    Raises:
        UserError: the folder is not empty, there are no images, or two images, or an image and the outside, would
            share a file.
    """
    folder = Path(folder).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder: choose another one, for nothing is overwritten.")
    entries: dict[str, dict[str, Any]] = {}
    for image in images:
        file = _file_name(image)
        if file in entries:
            raise UserError(f"Two manipulated images would be {folder / file}: give them different names.")
        with write_atomically(folder / file, durable=False) as temporary:
            to_pil_image((image.image * 255).round().clamp(0, 255).to("cpu", torch.uint8)).save(temporary)
        entries[file] = {
            "file": file,
            "class": image.class_name,
            "source": image.source,
            "mask": image.mask,
            "texture": image.texture,
            "seed": image.seed,
        }
        if image.share is not None:
            entries[file]["share"] = image.share
    if not entries:
        raise UserError(f"There are no manipulated images to write to {folder}: at least one is needed.")
    manifest = {"settings": dict(settings), "images": list(entries.values())}
    with write_atomically(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return manifest


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Read the manifest of a folder of manipulated images.

    Args:
        folder: what :func:`save_manipulated_folder` wrote.

    Returns:
        The manifest.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = Path(folder).expanduser() / MANIFEST
    try:
        manifest = read_json(path)
        known = "settings" in manifest and all(_is_entry(entry) for entry in manifest["images"])
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: the folder holds no manipulated images, or not all of them.") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        known = False
    if not known:
        raise UserError(f"{path} is no manifest of manipulated images: make the folder anew.")
    return manifest


def load_manipulated_folder(folder: str | Path, classes: Sequence[str]) -> ImageFiles:
    """Open a folder of manipulated images as labelled images, in the order of the manifest.

    Args:
        folder: what :func:`save_manipulated_folder` wrote.
        classes: all classes; the position is the label.

    Returns:
        The image files, uint8 ``[3, H, W]`` each, with their labels.

    Raises:
        UserError: there is no manifest, or an image's class is none of the classes.
    """
    folder = Path(folder).expanduser()
    images = read_manifest(folder)["images"]
    files = [image["file"] for image in images]
    labels = class_labels([image["class"] for image in images], classes, files)
    return ImageFiles([named_path(folder, file) for file in files], labels)


def _is_entry(entry: dict[str, Any]) -> bool:
    """Return whether an entry names a class and a file inside the folder."""
    file, class_name = entry["file"], entry["class"]
    if not isinstance(file, str) or not isinstance(class_name, str):
        return False
    path = PurePosixPath(file)
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts


def _file_name(image: ManipulatedImage) -> str:
    for part in (image.class_name, image.name):
        if part in ("", ".", "..") or part != Path(part).name:
            raise UserError(f"A manipulated image cannot be put under {part!r}: a class and a name are one word each.")
    return f"{image.class_name}/{image.name}.png"
