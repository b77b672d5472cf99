"""A folder of photographs, one sub-folder for each of some of the classes of a data set."""

from collections.abc import Sequence
from pathlib import Path

from editable.data.classes import class_labels
from editable.data.images.images import ImageFiles
from editable.data.images.listing import list_class_images, subfolders
from editable.errors import UserError

__all__ = ["labelled_folder"]


def labelled_folder(folder: str | Path, classes: Sequence[str]) -> ImageFiles:
    """Open a folder of images that holds some of the classes, ``<folder>/<class>/``; files beside these are left out.

    Args:
        folder: the folder.
        classes: all classes; the position is the label.

    Returns:
        The image files, uint8 ``[3, H, W]`` each, with their labels, sorted by class and name.

    Raises:
        UserError: there is no such folder, no image in it, or one of its sub-folders is none of the classes.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(f"The image folder {folder} does not exist: images belong in {folder}/<class>/.")
    names = subfolders(folder)
    files, positions = list_class_images(folder, names)
    if not files:
        raise UserError(f"{folder} holds no image: images belong in {folder}/<class>/.")
    paths = [Path(path) for path in files.below(folder)]
    labels = class_labels([names[position] for position in positions], classes, [str(path) for path in paths])
    return ImageFiles(paths, labels)
