"""Masks of a concept in a set of images: from a JSON file of outlines, a folder of mask images, or COCO annotations."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from editable.data.classes import name_key
from editable.data.concepts.coco_masks import annotated_images
from editable.data.concepts.masked_image import MaskedImage, OutlinedImage, PaintedImage
from editable.data.concepts.outlines import OUTLINES, read_outlines
from editable.data.images.frame import Frame
from editable.data.images.listing import list_images, named_path
from editable.errors import UserError, require_side
from editable.text_files import read_json, require_keys

__all__ = ["MaskedImages", "matching_images", "read_masks"]

EXPECTED = '{"resize": 256, "crop": 224, "masks": [{"image": "cat/1.jpg", "polygon": [[x, y], [x, y], [x, y]]}]}'


KEYS = ("resize", "crop", "masks")
ENTRY_KEYS = ("image", "class", "outside", *OUTLINES)
COCO_KEYS = ("images", "annotations", "categories", "info", "licenses")


class MaskedImages(NamedTuple):
    """What :func:`read_masks` finds."""

    images: list[MaskedImage]
    """The images, in the order of the masks file, or sorted by name where there is no file of our own."""

    frame: Frame
    """The frame that the masks are in."""


def read_masks(masks: str | Path, root: str | Path | None = None, category: str | None = None) -> MaskedImages:
    """Find out which images show a concept, and where; no image is read yet.

    ``masks`` is one of these:

    - A JSON file ``{"resize": 256, "crop": 224, "masks": [{"image": "cat/1.jpg", "polygon": [[x, y], …]}, …]}``. Each
      entry has one of ``polygon``, ``polygons`` (a list of them, united), ``box`` (``[left, top, right, bottom]``) and
      ``mask`` (an image file, relative to the JSON file's folder). With ``"outside": true``, outlines mark what is not
      the concept. An entry may have a ``class``; without it, the class is the name of the image's folder. Coordinates,
      and the pixels of mask files, are those of the image after its shorter side was resized to ``resize`` and its
      centre cropped to ``crop``; without these two, those of the stored image. Coordinates count from the image's upper
      left corner: pixel i covers ``[i, i + 1)``, and the image ``[0, W] × [0, H]``. A polygon that reaches W − 1 or
      H − 1, the last pixel, is taken on to the border.
    - A folder of mask images, each named like its image in ``root``, sub-folder and all; only the ending may differ.
    - A file of COCO annotations, of which those of ``category`` are taken; needs ``pip install 'editable[coco]'``.

    Args:
        masks: the JSON file, folder or annotations.
        root: the folder that image names are relative to; ``None``: the folder of the file.
        category: name of the COCO category.

    Returns:
        The images with their masks, and the frame that the masks are in.

    Raises:
        UserError: the masks are missing or not of these forms, or an image is missing.
    """
    path = Path(masks).expanduser()
    folder = None if root is None else Path(root).expanduser()
    if folder is not None and not folder.is_dir():
        raise UserError(f"The image folder {folder} does not exist: root must hold the images that {path} names.")
    content = None if path.is_dir() else _read_json(path)
    is_coco = content is not None and "masks" not in content
    if category is not None and not is_coco:
        raise UserError(f"category is {category!r}, but {path} holds no COCO annotations: leave it out.")
    if content is None:
        found = MaskedImages(_in_folder(path, folder), Frame())
    elif is_coco:
        found = MaskedImages(annotated_images(content, path, folder or path.parent, category), Frame())
    else:
        found = _in_file(content, path, folder or path.parent)
    for image in found.images:
        if not image.path.is_file():
            raise UserError(
                f"The image {image.path} does not exist: {path} names it, and root must be the folder that names are "
                "relative to."
            )
    return found


def matching_images(folder: Path, names: list[str], kind: str) -> list[Path]:
    """Find the image of a folder that has each name, sub-folder and all; only the ending may differ.

    Args:
        folder: where to look.
        names: the names, relative to the folder.
        kind: what such an image is called in messages.

    Returns:
        The path of each.

    Raises:
        UserError: the folder does not exist, or a name has no image there, or several.
    """
    if not folder.is_dir():
        raise UserError(f"The folder {folder} does not exist: it must hold the {kind} of each image.")
    by_stem: dict[str, list[Path]] = {}
    for path in _images_below(folder):
        by_stem.setdefault(name_key(str(path.relative_to(folder).with_suffix(""))), []).append(path)
    found = []
    for name in names:
        stem = Path(name).with_suffix("")
        paths = by_stem.get(name_key(str(stem)), [])
        if len(paths) != 1:
            there = f"but there are {', '.join(path.name for path in paths)}" if paths else "but there is none"
            raise UserError(f"The {kind} of {name} must be the one image {folder / stem}.* of any format, {there}.")
        found += paths
    return found


def _images_below(folder: Path) -> list[Path]:
    listed = list_images(folder)
    listed.say_left_out(folder)
    return sorted(listed.paths)


def _in_folder(masks: Path, root: Path | None) -> list[MaskedImage]:
    if root is None or root.resolve() == masks.resolve():
        raise UserError(f"masks is the folder {masks}: root must say in which other folder the images are.")
    mask_paths = _images_below(masks)
    if not mask_paths:
        raise UserError(f"The folder {masks} holds no mask image: each must be named like its image in {root}.")
    names = [path.relative_to(masks).as_posix() for path in mask_paths]
    images: list[MaskedImage] = []
    for path, mask_path in zip(matching_images(root, names, "exemplar"), mask_paths, strict=True):
        name = path.relative_to(root).as_posix()
        images.append(PaintedImage(name, path, path.parent.name, str(mask_path), mask_path, Frame()))
    return images


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise UserError(f"The masks {path} do not exist: expected a JSON file or a folder of mask images.") from None
    except UserError as error:
        raise UserError(f"The masks file {error}: expected {EXPECTED}.") from error
    if not isinstance(content, dict) or not isinstance(content.get("masks", content.get("annotations")), list):
        known = (*KEYS, *COCO_KEYS)
        misspelt = [key for key in content if get_close_matches(key, known)] if isinstance(content, dict) else []
        require_keys(misspelt, known, f"The masks file {path}")
        raise UserError(f"The file {path} holds no masks: expected {EXPECTED}, or COCO annotations.")
    return content


def _in_file(content: Mapping[str, Any], source: Path, root: Path) -> MaskedImages:
    require_keys(content, KEYS, f"The masks file {source}")
    if not content["masks"]:
        raise UserError(f"The masks file {source} has no entry: expected {EXPECTED}.")
    frame = _frame(content, source)
    images: dict[str, MaskedImage] = {}
    for position, entry in enumerate(content["masks"]):
        image = _entry(entry, f"Entry {position} of {source}", source, root, frame)
        if image.name in images:
            raise UserError(
                f"Entry {position} of {source} is for the image {image.name} again: put its outlines in one entry, "
                "under polygons."
            )
        images[image.name] = image
    return MaskedImages(list(images.values()), frame)


def _frame(content: Mapping[str, Any], source: Path) -> Frame:
    resize, crop = content.get("resize"), content.get("crop")
    for key, value in (("resize", resize), ("crop", crop)):
        require_side(**{f"{key} in {source}": value})
    if resize is not None and (crop is None or crop > resize):
        raise UserError(f"resize in {source} is {resize}, but must be at least crop, which is {crop or 'not set'}.")
    return Frame(crop, resize)


def _entry(entry: Any, where: str, source: Path, root: Path, frame: Frame) -> MaskedImage:
    if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
        raise UserError(f"{where} names no image: expected {EXPECTED}.")
    require_keys(entry, ENTRY_KEYS, where)
    given = [key for key in OUTLINES if key in entry]
    if len(given) != 1:
        has = f"has {' and '.join(given)}" if given else "has none"
        raise UserError(f"{where} must have one of {', '.join(OUTLINES)}, but {has}.")
    (key,) = given
    name, value = entry["image"], entry[key]
    path = named_path(root, name)
    class_name = entry.get("class", path.parent.name)
    if not isinstance(class_name, str):
        raise UserError(f"class of {where} is {class_name!r}, but must be the name of a class.")
    outside = entry.get("outside", False)
    if not isinstance(outside, bool) or (outside and key == "mask"):
        raise UserError(f"outside of {where} is {outside!r}, but must be true or false, and true for outlines only.")
    if key != "mask":
        polygons = read_outlines(key, value, where)
        return OutlinedImage(name, path, class_name, str(source), polygons, frame, key != "box", outside)
    if not isinstance(value, str):
        raise UserError(f"mask of {where} is {value!r}, but must be the path of an image file.")
    mask_path = named_path(source.parent, value)
    return PaintedImage(name, path, class_name, str(mask_path), mask_path, frame)
