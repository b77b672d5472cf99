"""Which pixels of a stored image a network sees: the shorter side resized, then the centre cropped."""

from dataclasses import dataclass

import numpy as np
from torch import nn
from torchvision.transforms import v2

from editable.errors import UserError, require_side

__all__ = ["Frame"]


@dataclass(frozen=True)
class Frame:
    """The evaluation transform of :class:`~editable.data.ImageFolderDataModule`, for images and for points in them.

    Points are ``(x, y)`` in continuous pixels: pixel i covers ``[i, i + 1)``, and the whole image ``[0, W] × [0, H]``.

    Args:
        image_size: height and width, in pixels, of what comes out; ``None`` keeps the stored image.
        resize_size: length of the shorter side, in pixels, before the centre crop; ``None``: ``image_size``.

    Raises:
        UserError: a size is out of range.
    """

    image_size: int | None = None
    resize_size: int | None = None

    def __post_init__(self) -> None:
        require_side(image_size=self.image_size, resize_size=self.resize_size)
        if self.resize_size is not None and (self.image_size is None or self.resize_size < self.image_size):
            raise UserError(
                f"resize_size is {self.resize_size}, but must be at least image_size, which is "
                f"{self.image_size or 'not set'}."
            )

    def __str__(self) -> str:
        if self.image_size is None:
            return "the stored image"
        return (
            f"the image with its shorter side resized to {self._shorter_side} and its centre cut to {self.image_size}"
        )

    @property
    def transform(self) -> nn.Module:
        """What brings an image ``[C, H', W']`` to the frame: bilinear, antialiased."""
        if self.image_size is None:
            return v2.Identity()
        return v2.Compose([v2.Resize(self._shorter_side), v2.CenterCrop(self.image_size)])

    def shape(self, stored: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width of what becomes of an image of height and width ``stored``."""
        return stored if self.image_size is None else (self.image_size, self.image_size)

    def to_stored(self, points: np.ndarray, stored: tuple[int, int]) -> np.ndarray:
        """Map points of the frame, ``[k, 2]``, to the stored image of height and width ``stored``."""
        scale, offset = self._placement(stored)
        return (points + offset) / scale

    def from_stored(self, points: np.ndarray, stored: tuple[int, int]) -> np.ndarray:
        """Map points of the stored image, ``[k, 2]``, to the frame; they may lie outside of the crop."""
        scale, offset = self._placement(stored)
        return points * scale - offset

    @property
    def _shorter_side(self) -> int | None:
        return self.resize_size or self.image_size

    def _placement(self, stored: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return scale and offset, (x, y) each: a stored point p is at scale · p − offset of the frame."""
        if self.image_size is None or self._shorter_side is None:
            return np.ones(2), np.zeros(2)
        # torchvision rounds the longer side down, and the crop's corner to the nearest pixel
        resized = [int(self._shorter_side * side / min(stored)) for side in stored]
        corner = [round((side - self.image_size) / 2) for side in resized]
        scale = [new / old for new, old in zip(resized, stored, strict=True)]
        return np.array(scale[::-1]), np.array(corner[::-1], dtype=float)
