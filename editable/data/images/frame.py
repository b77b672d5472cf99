"""Which pixels of a stored image a network sees: the image resized to cover a size, then its centre cut out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn
from torchvision.transforms import v2

from editable.errors import UserError, require_side

__all__ = ["Frame", "two_sides"]


@dataclass(frozen=True)
class Frame:
    """The evaluation transform of the data modules of images, for images and for points in them.

    Points are ``(x, y)`` in continuous pixels: pixel i covers ``[i, i + 1)``, and the whole image ``[0, W] × [0, H]``.

    Args:
        image_size: side of the square, or height and width, in pixels, of what comes out; ``None`` keeps the stored
            image.
        resize_size: what the image is resized to before its centre is cut out: its shorter side, or the height and
            width that it just covers, in pixels; ``None``: ``image_size``.

    Raises:
        UserError: a size is out of range.
    """

    image_size: int | Sequence[int] | None = None
    resize_size: int | Sequence[int] | None = None

    def __post_init__(self) -> None:
        for name in ("image_size", "resize_size"):
            object.__setattr__(self, name, _checked(name, getattr(self, name)))
        crop, resized = _sides(self.image_size), _sides(self.resize_size)
        if resized is not None and (crop is None or any(new < side for new, side in zip(resized, crop, strict=True))):
            raise UserError(
                f"resize_size is {_text(self.resize_size)}, but must be at least image_size, which is "
                f"{_text(self.image_size) if crop else 'not set'}."
            )

    def __str__(self) -> str:
        if self.image_size is None:
            return "the stored image"
        resized = self.resize_size or self.image_size
        how = f"its shorter side resized to {resized}" if isinstance(resized, int) else f"resized over {_text(resized)}"
        return f"the image {'with ' * isinstance(resized, int)}{how} and its centre cut to {_text(self.image_size)}"

    @property
    def transform(self) -> nn.Module:
        """What brings an image ``[C, H', W']`` to the frame: bilinear, antialiased."""
        crop, cover = self._crop, self._cover
        return v2.Identity() if crop is None or cover is None else v2.Compose([_Resize(cover), v2.CenterCrop(crop)])

    def shape(self, stored: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width of what becomes of an image of height and width ``stored``."""
        return self._crop or stored

    def to_stored(self, points: np.ndarray, stored: tuple[int, int]) -> np.ndarray:
        """Map points of the frame, ``[k, 2]``, to the stored image of height and width ``stored``."""
        scale, offset = self._placement(stored)
        return (points + offset) / scale

    def from_stored(self, points: np.ndarray, stored: tuple[int, int]) -> np.ndarray:
        """Map points of the stored image, ``[k, 2]``, to the frame; they may lie outside of the crop."""
        scale, offset = self._placement(stored)
        return points * scale - offset

    @property
    def _crop(self) -> tuple[int, int] | None:
        return _sides(self.image_size)

    @property
    def _cover(self) -> tuple[int, int] | None:
        return _sides(self.resize_size) or self._crop

    def _placement(self, stored: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return scale and offset, (x, y) each: a stored point p is at scale · p − offset of the frame."""
        if self._crop is None or self._cover is None:
            return np.ones(2), np.zeros(2)
        resized = _covering(stored, self._cover)
        # torchvision rounds the crop's corner to the nearest pixel
        corner = [round((side - crop) / 2) for side, crop in zip(resized, self._crop, strict=True)]
        scale = [new / old for new, old in zip(resized, stored, strict=True)]
        return np.array(scale[::-1]), np.array(corner[::-1], dtype=float)


class _Resize(nn.Module):
    """Resizes an image such that it just covers a height and width, with its own ratio of sides."""

    def __init__(self, cover: tuple[int, int]) -> None:
        super().__init__()
        self.cover = cover

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        return v2.functional.resize(image, list(_covering((height, width), self.cover)))

    def extra_repr(self) -> str:
        return f"cover={self.cover}"


def _covering(stored: tuple[int, int], cover: tuple[int, int]) -> tuple[int, int]:
    """Return the least height and width that cover others, of the stored ratio; rounded down, as torchvision does."""
    (height, width), (rows, columns) = stored, cover
    if rows * width >= columns * height:
        return rows, rows * width // height
    return columns * height // width, columns


def two_sides(name: str, size: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width of a size in pixels: one side of a square, or both.

    Args:
        name: of the argument, for the error.
        size: what was given.

    Raises:
        UserError: it is out of range.
    """
    sides = _sides(_checked(name, size))
    assert sides is not None
    return sides


def _checked(name: str, size: int | Sequence[int] | None) -> int | tuple[int, int] | None:
    """Return a size as one side or two different ones."""
    if size is None or isinstance(size, str) or not isinstance(size, Sequence):
        require_side(**{name: size})
        return size
    if len(size) != 2:
        raise UserError(f"{name} must be one side, or height and width, got {list(size)}")
    for side in size:
        require_side(**{name: side})
    height, width = size
    return height if height == width else (height, width)


def _sides(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _text(size: int | Sequence[int] | None) -> str:
    return "×".join(map(str, size)) if isinstance(size, Sequence) else str(size)
