"""Pictures of which nobody knows a label: files, folders and patterns of names."""

import glob
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from editable.data.images.grey import to_grey
from editable.data.images.images import LabelledImages
from editable.data.images.listing import list_images
from editable.data.images.reader import read_image
from editable.errors import UserError

__all__ = ["Pictures"]


class Pictures(LabelledImages):
    """Image files, read like a data module's own; labels are −1.

    Args:
        asked: files, folders with all images below them, or patterns such as ``photos/*.jpg`` (``**`` for all folders
            below); each image is there once, in this order.
        grey: whether the network takes one channel.

    Attributes:
        names: paths, as they were found.

    Raises:
        UserError: there is no such image; when it is read, the file is broken.
    """

    names: list[str]

    def __init__(self, asked: Sequence[str], grey: bool = False) -> None:
        found = [path for some in asked for path in _found(some)]
        if not found:
            raise UserError("there is no image to look at: give files, folders, or patterns such as 'photos/*.jpg'")
        self.names, self._grey = list(dict.fromkeys(found)), grey
        super().__init__(torch.full((len(self.names),), -1))

    def read(self, index: int) -> Tensor:
        """Return the image ``[C, H, W]`` at position ``index``."""
        image = read_image(self.names[index])
        return to_grey(image) if self._grey else image


def _found(asked: str) -> list[str]:
    """Return the images that are meant; whatever has that very name comes before a pattern."""
    path = Path(asked)
    if path.is_dir():
        listed = list_images(path)
        listed.say_left_out(path)
        found = [str(some) for some in listed.paths]
        if not found:
            raise UserError(f"the folder '{asked}' has no images")
        return found
    if path.is_file():
        return [asked]
    found = sorted(some for some in glob.glob(asked, recursive=True) if Path(some).is_file())
    if not found:
        what = "matches no file" if glob.has_magic(asked) else "is not there"
        raise UserError(f"the image '{asked}' {what}")
    return found
