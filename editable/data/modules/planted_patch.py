"""A spurious cue that is planted on purpose: a coloured square in a corner of a share of one class's images."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from editable.data.classes import ClassName, class_numbers, name_text
from editable.data.images.images import LabelledImages
from editable.data.modules.image_data_module import Split
from editable.errors import UserError, require_at_least, require_seed, require_side, require_within

__all__ = ["Corner", "PlantedImages", "PlantedPatch"]

Corner = Literal["upper_left", "upper_right", "lower_left", "lower_right"]
"""A corner of an image."""


class PlantedPatch:
    """A coloured square in a corner of some images, which a network learns to take for the class that has it most.

    Of a class's training images, round(share · n) have it, drawn by seed; so do validation images, those of a folder of
    their own and those held out of the training images alike. Which images have it depends on the seed, the split and
    the images' labels alone: not on the epoch, the order, workers or processes, nor on how many images a run takes.
    It is in the images as they are stored, before they are resized or augmented.

    Args:
        class_name: the class that has the patch.
        share: part of its images that have the patch, from 0 to 1.
        other_share: part of each other class's images that have it, from 0 to 1.
        test_share: part of each class's images in the folder ``test`` that have it, from 0 to 1; null: as in training.
        size: side of the square, in pixels.
        colour: its red, green and blue, on a scale of 0 to 1; magenta by default.
        corner: where it is: upper_left, upper_right, lower_left or lower_right.
        margin: its distance from the two borders, in pixels.
        seed: seed of the choice of images.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(
        self,
        class_name: ClassName,
        share: float = 0.5,
        other_share: float = 0.0,
        test_share: float | None = None,
        size: int = 5,
        colour: Sequence[float] = (1.0, 0.0, 1.0),
        corner: Corner = "lower_right",
        margin: int = 1,
        seed: int = 0,
    ) -> None:
        require_side(size=size)
        require_at_least(0, margin=margin)
        require_seed(seed=seed)
        require_within("[0, 1]", share=share, other_share=other_share, test_share=test_share)
        require_within("[0, 1]", colour=colour)
        if len(colour) != 3:
            raise UserError(f"colour is red, green and blue, each from 0 to 1, got {list(colour)}.")
        if corner not in get_args(Corner):
            raise UserError(f"corner is {corner!r}, but must be one of {', '.join(get_args(Corner))}.")
        self.class_name = name_text(class_name)
        self.share, self.other_share, self.test_share = share, other_share, test_share
        self.size, self.colour, self.corner, self.margin, self.seed = size, tuple(colour), corner, margin, seed

    def plant(self, images: LabelledImages, split: Split, classes: Sequence[str]) -> "PlantedImages":
        """Return the images of a split, some of them with the patch.

        Args:
            images: as they are stored.
            split: which part of the data set they are.
            classes: all classes; the position is the label.

        Raises:
            UserError: the class is none of them.
        """
        return PlantedImages(images, self.chosen(images.labels, split, classes), self)

    def chosen(self, labels: Tensor, split: Split, classes: Sequence[str]) -> Tensor:
        """Return which images of a split have the patch, bool ``[N]``.

        Args:
            labels: class indices, int64 ``[N]``.
            split: which part of the data set they are.
            classes: all classes; the position is the label.

        Raises:
            UserError: the class is none of them.
        """
        (planted,) = class_numbers([self.class_name], classes, "class_name of the planted patch")
        splits: tuple[Split, ...] = get_args(Split)
        generator = torch.Generator().manual_seed(len(splits) * self.seed + splits.index(split))
        chosen = torch.zeros(len(labels), dtype=torch.bool)
        for label in range(len(classes)):
            members = (labels == label).nonzero().flatten()
            count = round(self._share(label == planted, split) * len(members))
            chosen[members[torch.randperm(len(members), generator=generator)[:count]]] = True
        return chosen

    def mask(self, height: int, width: int) -> Tensor:
        """Return where the patch is in an image of some size, float32 ``[height, width]``, 0 or 1.

        Raises:
            UserError: the patch is larger than that.
        """
        end = self.margin + self.size
        if end > min(height, width):
            raise UserError(
                f"a patch of {self.size} pixels with a margin of {self.margin} does not fit in an image of "
                f"{height}×{width} pixels: give it a smaller size."
            )
        vertical, horizontal = self.corner.split("_")
        rows = slice(self.margin, end) if vertical == "upper" else slice(height - end, height - self.margin)
        columns = slice(self.margin, end) if horizontal == "left" else slice(width - end, width - self.margin)
        mask = torch.zeros(height, width)
        mask[rows, columns] = 1
        return mask

    def paste(self, image: Tensor) -> Tensor:
        """Return an image with the patch.

        Args:
            image: ``[3, H, W]``, uint8 in 0..255 or floats in 0..1.

        Raises:
            UserError: the image is smaller than the patch, or not in colour.
        """
        if image.shape[0] != 3:
            raise UserError(f"a coloured patch needs images of three channels, got {image.shape[0]}.")
        colour = torch.tensor(self.colour)
        colour = colour.to(image) if image.is_floating_point() else (colour * 255).round().to(image)
        mask = self.mask(image.shape[1], image.shape[2]).to(image.device, torch.bool)
        return torch.where(mask, colour[:, None, None], image)

    def _share(self, is_planted: bool, split: Split) -> float:
        if split == "test" and self.test_share is not None:
            return self.test_share
        return self.share if is_planted else self.other_share


class PlantedImages(LabelledImages):
    """Images of which some have a patch.

    Args:
        images: as they are stored.
        planted: which have it, bool ``[N]``.
        patch: the patch.
    """

    def __init__(self, images: LabelledImages, planted: Tensor, patch: PlantedPatch) -> None:
        super().__init__(images.labels)
        self.images, self.planted, self.patch = images, planted, patch
        self.take_names(images)

    def read(self, index: int) -> Tensor:
        """Return the image ``[3, H, W]`` at position ``index``."""
        image = self.images.read(index)
        return self.patch.paste(image) if self.planted[index] else image
