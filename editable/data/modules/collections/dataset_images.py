"""Images of somebody else's data set: whatever its items are, as pixels with a label."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset

from editable.command_line.progress import tracked
from editable.data.images.images import LabelledImages, require_size
from editable.data.images.reader import pixels_of, read_image, read_image_bytes
from editable.errors import UserError

__all__ = ["DatasetImages", "labels_in", "pixels_in"]

LABELS = ("targets", "labels", "_labels")
"""What data sets call the labels of all images, torchvision's among them."""


class DatasetImages(LabelledImages):
    """Images of a data set whose items are an image and its label.

    Args:
        dataset: the data set; an item is ``(image, label, …)``, or a mapping with ``image`` and ``label``; the image as
            :func:`pixels_in` takes it.
        found: what the data set says the label of each image is, as an item has it.
        labels: class indices, int64 ``[N]``.
        name: of the data set, for messages.
        size: height and width in pixels that every image must have; ``None`` allows any.
    """

    def __init__(
        self, dataset: Dataset, found: Sequence[Any], labels: Tensor, name: str, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(labels)
        self.dataset, self.found, self.name, self.size = dataset, found, name, size

    def read(self, index: int) -> Tensor:
        """Return the image ``[C, H, W]`` at position ``index``.

        Raises:
            UserError: it is no image, has another size than the one demanded, or another label than the data set says.
        """
        where = f"{index} of {self.name}"
        image, label = _parts(self.dataset[index], where)
        if _plain(label) != self.found[index]:
            raise UserError(
                f"the item {where} has the label {_plain(label)}, but among the labels of the data set it is "
                f"{self.found[index]}: leave out its target_transform"
            )
        pixels = pixels_in(image, where)
        require_size(pixels, self.size, where)
        return pixels


def labels_in(dataset: Dataset, name: str) -> list[Any]:
    """Return the label of each image, a number or a text.

    They are what the data set calls its targets or labels; where it has none, each image is read once, with a warning.

    Args:
        dataset: the data set.
        name: of it, for messages.

    Raises:
        UserError: an item has no label.
    """
    if isinstance(dataset, Subset):
        labels = labels_in(dataset.dataset, name)
        return [labels[index] for index in dataset.indices]
    try:
        number = len(cast(Sequence, dataset))
    except TypeError as error:
        raise UserError(f"{name} has no length: give a data set whose items have positions") from error
    for attribute in LABELS:
        known = getattr(dataset, attribute, None)
        if isinstance(known, Sequence | Tensor | np.ndarray) and len(known) == number:
            return [_plain(label) for label in known]
    rank_zero_warn(f"{name} says nowhere what the labels of all its images are: each is read once to see")
    hide_bar = getattr(rank_zero_only, "rank", 0) != 0
    with tracked(range(number), f"Labels of {name}", hide_bar) as shown:
        return [_plain(_parts(dataset[index], f"{index} of {name}")[1]) for index in shown]


def pixels_in(image: Any, name: str) -> Tensor:
    """Return the pixels of an image, ``[C, H, W]``, uint8 in 0..255 or float32 in 0..1.

    Args:
        image: an image of Pillow, the content of an image file or its path, which the one reader turns into RGB; an
            array ``[H, W, C]`` or ``[H, W]`` of uint8; a tensor ``[C, H, W]`` or ``[H, W]`` of uint8 or of floats in
            0..1.
        name: what the image is called in messages.

    Raises:
        UserError: it is none of these, or its levels are others.
    """
    if isinstance(image, Image.Image):
        return pixels_of(image, name)
    if isinstance(image, bytes):
        return read_image_bytes(image, name)
    if isinstance(image, str):
        return read_image(image)
    if isinstance(image, np.ndarray):
        image = torch.from_numpy(np.ascontiguousarray(image))
        image = image.permute(2, 0, 1).contiguous() if image.ndim == 3 else image
    if not isinstance(image, Tensor):
        raise UserError(f"the image {name} is a {type(image).__name__}, but must be of Pillow, an array or a tensor")
    image = image.as_subclass(Tensor)
    image = image.unsqueeze(0) if image.ndim == 2 else image
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise UserError(f"the image {name} is {list(image.shape)}, but must have one channel or three, [C, H, W]")
    if image.is_floating_point():
        low, high = float(image.min()), float(image.max())
        if not 0 <= low <= high <= 1:
            raise UserError(
                f"the levels of the image {name} are from {low:.3g} to {high:.3g}, but floats must be from 0 to 1: "
                "leave normalisation to mean and std"
            )
        return image.float()
    if image.dtype != torch.uint8:
        raise UserError(f"the levels of the image {name} are {image.dtype}, but must be uint8 or floats from 0 to 1")
    return image


def _parts(item: Any, where: str) -> tuple[Any, Any]:
    if isinstance(item, Mapping) and {"image", "label"} <= set(item):
        return item["image"], item["label"]
    if isinstance(item, tuple | list) and len(item) >= 2:
        return item[0], item[1]
    raise UserError(f"the item {where} is a {type(item).__name__}, but must be an image and its label")


def _plain(label: Any) -> Any:
    """Return a label as a number or a text of Python's."""
    return label.item() if isinstance(label, Tensor | np.ndarray | np.generic) and label.ndim == 0 else label
