"""The one reader of image files: pixels as they are meant to be seen, whatever format and mode a file has."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from editable.data.images.levels import (
    WHITE_16,
    correct_transparency,
    has_sixteen_bits,
    refuse_unknown_levels,
    sixteen_bit_levels,
)
from editable.errors import UserError

__all__ = [
    "BACKGROUND",
    "ImageError",
    "ImageHead",
    "is_plain_jpeg",
    "pixels_of",
    "read_head",
    "read_image",
    "read_image_bytes",
    "read_mask_image",
    "read_size",
]

BACKGROUND = (255, 255, 255)
"""What transparent images are laid over: white, as on a page."""

COLOUR_NOISE = 32
"""By how many of 255 levels the channels of a grey image may differ: lossy formats do not keep them equal."""


class ImageError(UserError):
    """One image file is broken or has the wrong size.

    A data loader's worker process cannot raise in the main process; torch rebuilds the exception there as
    ``ImageError(text)``, where the text is the worker's whole traceback. The constructor keeps the sentence only, so
    that the user reads the same message with and without workers.

    Args:
        message: the sentence, or a formatted traceback that ends with it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


def read_image(path: str | Path) -> Tensor:
    """Decode an image file to RGB, as a viewer shows it.

    The picture is turned as its EXIF orientation says; transparent parts are laid over white; 16-bit levels are scaled
    to 8 bits (white is 65535); grey, palette and CMYK images are converted. Of several frames or pages the first one
    is taken; colour profiles are not applied. ``docs/images.md`` has the table.

    Args:
        path: a file in any format that Pillow reads.

    Returns:
        The image, uint8 ``[3, H, W]``.

    Raises:
        ImageError: the file is missing, damaged, in no format that Pillow reads, or its levels have no known white (32
            bits, floats).
    """
    with _opened(path, "image") as (image, stored):
        return _rgb(image, stored)


def read_image_bytes(content: bytes, name: str) -> Tensor:
    """Decode what an image file holds, as :func:`read_image` does.

    Args:
        content: of the file.
        name: what the image is called in messages.

    Returns:
        The image, uint8 ``[3, H, W]``.

    Raises:
        ImageError: as of :func:`read_image`.
    """
    with _decoded(BytesIO(content), name) as (image, stored):
        return _rgb(image, stored)


class ImageHead(NamedTuple):
    """What the head of an image file says."""

    height: int
    """In pixels, as they are stored."""

    width: int
    """In pixels, as they are stored."""

    format: str
    """Pillow's name of the format, such as ``PNG``."""


def read_head(content: bytes, name: str) -> ImageHead:
    """Look at the head of what an image file holds; no pixel is decoded.

    Args:
        content: of the file.
        name: what the image is called in messages.

    Raises:
        ImageError: it is in no format that Pillow reads.
    """
    with _decoded(BytesIO(content), name, turned=False) as (image, _):
        return ImageHead(image.height, image.width, str(image.format))


def is_plain_jpeg(content: bytes) -> bool:
    """Return whether any decoder of JPEG shows a file's content as :func:`read_image` does: grey or RGB, not turned."""
    try:
        with Image.open(BytesIO(content)) as image:
            plain = image.format == "JPEG" and image.mode in ("L", "RGB")
            return plain and image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    except Exception:  # Pillow's readers raise many types of error on damaged files; its decoder will say which
        return False


def pixels_of(picture: Image.Image, name: str) -> Tensor:
    """Return the pixels of an image that Pillow has opened, as :func:`read_image` does.

    Args:
        picture: the image, as somebody else's data set hands it over.
        name: what the image is called in messages.

    Returns:
        The image, uint8 ``[3, H, W]``.

    Raises:
        ImageError: as of :func:`read_image`.
    """
    with _readable(name, "image"):
        refuse_unknown_levels(picture)
        correct_transparency(picture)
        return _rgb(ImageOps.exif_transpose(picture), picture)


def _rgb(image: Image.Image, stored: Image.Image) -> Tensor:
    """Return the RGB pixels of a turned picture, uint8 ``[3, H, W]``; the opened file has its tags."""
    if has_sixteen_bits(image):
        levels, transparent = sixteen_bit_levels(image, stored)
        grey = (levels * 255 + WHITE_16 // 2) // WHITE_16
        grey[transparent] = BACKGROUND[0]
        return torch.from_numpy(grey.astype(np.uint8)).expand(3, -1, -1).clone()
    if image.has_transparency_data:
        background = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        image = Image.alpha_composite(background, image.convert("RGBA"))
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def read_mask_image(path: str | Path) -> Tensor:
    """Read a grey image as a mask: black is 0, white is 1, and grey levels are between.

    It is turned as its EXIF orientation says, as images are. An image whose levels are 0 and 1 only is a mask of 0 and
    1, not a nearly black one. Transparent pixels are 0.

    Args:
        path: a file in any format that Pillow reads, of 1, 8 or 16 bits.

    Returns:
        The mask, float32 ``[H, W]`` in [0, 1].

    Raises:
        UserError: the file cannot be read, is in colour, or is so dark that it must be a map of labels.
    """
    with _opened(path, "mask") as (image, stored):
        if has_sixteen_bits(image):
            levels, transparent = sixteen_bit_levels(image, stored)
            levels[transparent], white = 0, WHITE_16
        else:
            black = Image.new("RGBA", image.size, (0, 0, 0, 255))
            colours = np.asarray(Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")).astype(np.int64)
            if (colours.max(axis=2) - colours.min(axis=2)).max() > COLOUR_NOISE:
                raise UserError(f"The mask {path} is in colour, but must be grey: black outside and white inside.")
            levels, white = colours[..., 0], 255
    brightest = int(levels.max())
    if brightest == 1:
        return torch.from_numpy(levels).float()
    if 0 < brightest < white / 2:
        raise UserError(
            f"The mask {path} has no level above {brightest} of {white}, but must be black outside and white inside, "
            "or 0 and 1."
        )
    return torch.from_numpy(levels / white).float()


def read_size(path: str | Path) -> tuple[int, int]:
    """Return height and width of an image as :func:`read_image` returns it; mostly, only the head of the file is read.

    Raises:
        ImageError: the file is missing or in no format that Pillow reads.
    """
    with _opened(path, "image", turned=False) as (image, _):
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)  # some decoders turn the picture by themselves, and some do not
        return image.height, image.width


@contextmanager
def _opened(path: str | Path, what: str, turned: bool = True) -> Iterator[tuple[Image.Image, Image.Image]]:
    """Open a file and turn the picture.

    Yields:
        The turned picture, and the opened file, whose tags are those of the file.
    """
    with _readable(path, what):
        if Path(path).exists() and not Path(path).is_file():  # a pipe would be waited for, a device read without end
            raise ValueError("it is no file")
        # by its bytes: of a file that it knows by name, Pillow maps a turned TIFF into memory with its sides exchanged
        with open(path, "rb") as file, _decoded(file, path, what, turned) as opened:
            yield opened


@contextmanager
def _decoded(
    file: BinaryIO, name: str | Path, what: str = "image", turned: bool = True
) -> Iterator[tuple[Image.Image, Image.Image]]:
    """Yield the turned picture, and the opened file."""
    with _readable(name, what), Image.open(file) as image:
        if turned:
            refuse_unknown_levels(image)
            correct_transparency(image)
        yield ImageOps.exif_transpose(image) if turned else image, image


@contextmanager
def _readable(name: str | Path, what: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise many types of error on damaged files
        reason = " ".join(str(error).split())
        raise ImageError(f"The {what} {name} cannot be read ({reason}): replace or remove the file.") from error
