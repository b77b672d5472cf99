"""Grey images for networks of one channel."""

import torch
from torch import Tensor

from editable.data.images.images import LabelledImages

__all__ = ["GreyImages", "to_grey"]

WEIGHTS = (19595, 38470, 7471)
"""Of red, green and blue in 65536 parts: luma of ITU-R BT.601, as Pillow has it; equal channels stay as they are."""


def to_grey(image: Tensor) -> Tensor:
    """Return an image ``[3, H, W]`` as ``[1, H, W]``; one that has one channel is returned as it is.

    Args:
        image: uint8 in 0..255 or floats in 0..1.
    """
    if image.shape[0] != 3:
        return image
    weights = torch.tensor(WEIGHTS).view(3, 1, 1)
    if image.is_floating_point():
        return (image * (weights / 2**16)).sum(0, keepdim=True)
    return ((image.long() * weights).sum(0, keepdim=True) + 2**15 >> 16).to(image.dtype)


class GreyImages(LabelledImages):
    """Images of three channels as grey ones.

    Args:
        images: as they are stored.
    """

    def __init__(self, images: LabelledImages) -> None:
        super().__init__(images.labels)
        self.images = images
        self.take_names(images)

    def read(self, index: int) -> Tensor:
        """Return the image ``[1, H, W]`` at position ``index``."""
        return to_grey(self.images.read(index))
