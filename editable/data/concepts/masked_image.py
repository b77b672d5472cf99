"""An image and the mask of a concept in it, as outlines or as a painted image; both are read when asked for."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from editable.data.concepts.polygons import polygon_mask
from editable.data.images.frame import Frame
from editable.data.images.reader import read_image, read_mask_image
from editable.errors import UserError

__all__ = ["MaskedImage", "OutlinedImage", "PaintedImage"]


@dataclass(frozen=True, eq=False)
class MaskedImage(ABC):
    """An image file and where a concept is in it; a subclass says how the mask is given.

    Args:
        name: the image's name in the set of masks.
        path: the image file.
        class_name: the image's class, by default the name of its folder.
        mask_source: where the mask comes from, for records.
    """

    name: str
    path: Path
    class_name: str
    mask_source: str

    @property
    def files(self) -> list[Path]:
        """The files that image and mask are read from, besides one that names them."""
        return [self.path]

    def read(self, frame: Frame) -> tuple[Tensor, Tensor]:
        """Read the image and its mask, both brought to a frame.

        Args:
            frame: which pixels of the stored image are wanted.

        Returns:
            The image, float32 ``[3, H, W]`` in [0, 1], and the mask, float32 ``[H, W]`` in [0, 1]: the share of each
            pixel that shows the concept.

        Raises:
            UserError: a file cannot be read, the mask does not fit the image, or there is none of it in the frame.
        """
        stored = read_image(self.path)
        height, width = stored.shape[-2:]
        mask = self.draw((height, width), frame)
        if not mask.any():
            raise UserError(f"The mask of the image {self.path} is empty: it has no pixel of {frame}.")
        image = v2.functional.to_dtype(frame.transform(stored), torch.float32, scale=True)
        return image, mask

    @abstractmethod
    def draw(self, stored: tuple[int, int], frame: Frame) -> Tensor:
        """Draw the mask.

        Args:
            stored: height and width of the stored image.
            frame: which pixels of it are wanted.

        Returns:
            The mask, float32 ``[H, W]`` in [0, 1].

        Raises:
            UserError: the mask does not fit the image.
        """

    def _transform(self, mask: Tensor, stored: tuple[int, int], frame: Frame) -> Tensor:
        """Bring a mask of the stored image to the frame; it stays float, so that no edge is rounded."""
        if tuple(mask.shape) != stored:
            raise UserError(
                f"The mask {self.mask_source} is {mask.shape[0]}×{mask.shape[1]} pixels (height × width), but must be "
                f"as large as the image {self.path}, which is {stored[0]}×{stored[1]}."
            )
        return frame.transform(mask.float().unsqueeze(0)).squeeze(0).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class OutlinedImage(MaskedImage):
    """An image whose mask is the union of polygons, see :func:`~editable.data.concepts.polygons.polygon_mask`.

    Vertices are ``(x, y)`` in continuous pixels of ``drawn_in``: (0, 0) is the upper left corner of the image, (W, H)
    the lower right one.

    Args:
        polygons: vertices of each polygon, ``[k, 2]``.
        drawn_in: the frame that the vertices are in.
        to_border: take a polygon that reaches the last column or row (W − 1 or H − 1) on to the image's border; drawing
            tools that name pixels have no other way to say it.
        outside: the mask is what the polygons leave out.
    """

    polygons: tuple[np.ndarray, ...]
    drawn_in: Frame
    to_border: bool
    outside: bool = False

    def draw(self, stored: tuple[int, int], frame: Frame) -> Tensor:
        """Draw the polygons, float32 ``[H, W]``; those of another frame are mapped exactly, not resampled.

        Raises:
            UserError: a vertex is outside of the image that the polygon was drawn in.
        """
        polygons = [self._checked(polygon, self.drawn_in.shape(stored)) for polygon in self.polygons]
        if frame != self.drawn_in:
            polygons = [frame.from_stored(self.drawn_in.to_stored(polygon, stored), stored) for polygon in polygons]
        mask = polygon_mask(polygons, frame.shape(stored))
        return 1 - mask if self.outside else mask

    def _checked(self, polygon: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        limits = np.array(shape[::-1])
        outside = polygon[((polygon < 0) | (polygon > limits)).any(axis=1)]
        if len(outside):
            raise UserError(
                f"The vertex {outside[0].tolist()} of the image {self.path} in {self.mask_source} is outside of the "
                f"image, where x is from 0 to {limits[0]} and y from 0 to {limits[1]}: the polygon is in pixels of "
                f"{self.drawn_in}."
            )
        if not self.to_border:
            return polygon
        last = limits - 1
        return np.where((polygon >= last) & (polygon.min(axis=0) < last), limits, polygon)


@dataclass(frozen=True, eq=False)
class PaintedImage(MaskedImage):
    """An image whose mask is an image file, see :func:`~editable.data.images.reader.read_mask_image`.

    Args:
        mask_path: the mask file.
        drawn_in: the frame whose pixels the mask file has.
    """

    mask_path: Path
    drawn_in: Frame

    @property
    def files(self) -> list[Path]:
        """Image and mask."""
        return [self.path, self.mask_path]

    def draw(self, stored: tuple[int, int], frame: Frame) -> Tensor:
        """Read the mask, float32 ``[H, W]``, resized and cropped like the image: bilinear, antialiased.

        Raises:
            UserError: the mask cannot be read, has another size than the image, or is in pixels of another frame.
        """
        mask = read_mask_image(self.mask_path)
        if self.drawn_in == Frame():
            return self._transform(mask, stored, frame)
        if self.drawn_in != frame:
            raise UserError(
                f"The mask {self.mask_path} is in pixels of {self.drawn_in}, and cannot be brought to {frame}: leave "
                "out image_size and resize_size, or give a mask of the stored image."
            )
        return self._transform(mask, frame.shape(stored), Frame())
