"""The images of an edit with the labels asked for: files, or test images by their positions."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from editable.data.classes import ClassNames, find_class, is_none, named_classes, near_names
from editable.data.images.grey import to_grey
from editable.data.images.images import LabelledImages
from editable.data.images.reader import read_image
from editable.data.modules.image_data_module import ImageDataModule
from editable.data.modules.image_names import image_names
from editable.errors import UserError

__all__ = ["AskedImages"]


class AskedImages(LabelledImages):
    """Images that shall get labels, read like a data module's own; all are read once, to find those that are broken.

    Args:
        images: files, or positions of test images.
        labels: for each image the name of a class or, where no class has that name, its number; ``None`` asks for the
            true labels, which only test images have.
        data: the data module, set up for ``test``.

    Attributes:
        names: of the images: paths of files as they were given, names of test images.

    Raises:
        UserError: there are no images, there are not as many labels, or one of either is not there; an image is broken
            or of another size than the data module's.
    """

    names: list[str]

    def __init__(self, images: Sequence[int | str], labels: ClassNames | None, data: ImageDataModule) -> None:
        if not images:
            raise UserError("an edit needs at least one image, got none: give files, or positions of test images")
        self._test_images = data.test_dataset.images
        self._sources = [_source(image, len(data.test_dataset)) for image in images]
        self._grey = len(data.mean) == 1
        super().__init__(self._find_labels(labels, data.classes))
        stored = image_names(data.test_dataset) if any(isinstance(some, int) for some in self._sources) else []
        self.names = [stored[some] if isinstance(some, int) else some for some in self._sources]
        for index, name in enumerate(self.names):
            size, expected = list(data.resize(self.read(index)).shape), list(data.image_shape)
            if size != expected:
                raise UserError(
                    f"the image {name} is {size} (channels, height, width), the data module's images {expected}: set "
                    "the data module's image_size"
                )

    def read(self, index: int) -> Tensor:
        """Return the image ``[C, H, W]`` at position ``index``; a file is made grey where the data module's are."""
        source = self._sources[index]
        if isinstance(source, int):
            return torch.as_tensor(self._test_images[source][0])
        image = read_image(source)
        return to_grey(image) if self._grey else image

    def _find_labels(self, labels: ClassNames | None, classes: Sequence[str]) -> Tensor:
        if labels is None or is_none(labels, classes):
            files = [source for source in self._sources if isinstance(source, str)]
            if files:
                raise UserError(
                    f"the true label of the file {files[0]} is not known: give a label for each image, the name of a "
                    "class or its number"
                )
            true = [int(self._test_images[source][1]) for source in self._sources if isinstance(source, int)]
            return torch.tensor(true, dtype=torch.int64)
        names = named_classes(labels)
        if len(names) != len(self._sources):
            raise UserError(f"there are {len(self._sources)} images and {len(names)} labels: give one for each image")
        return torch.tensor([_label(name, classes) for name in names], dtype=torch.int64)


def _source(image: int | str, num_test_images: int) -> int | str:
    """Return a position or a file that is there; a name of digits alone that is no file is a position."""
    if isinstance(image, str) and Path(image).is_file():
        return image
    if isinstance(image, str) and Path(image).is_dir():
        raise UserError(f"'{image}' is a folder: name the images in it that are meant")
    if isinstance(image, str) and not image.isdecimal():
        raise UserError(f"there is no image at '{image}'")
    position = int(image)
    if not 0 <= position < num_test_images:
        raise UserError(f"there is no test image {position}: positions are 0 … {num_test_images - 1}")
    return position


def _label(asked: str, classes: Sequence[str]) -> int:
    label = find_class(asked, classes)
    if label is None:
        raise UserError(
            f"{asked!r} is none of the {len(classes)} classes of the data, and no number of one: "
            f"{near_names(asked, classes)}"
        )
    return label
