"""What the numbers in an image file mean, where Pillow hands them on as they are stored."""

import numpy as np
from PIL import Image, ImageFile

__all__ = ["WHITE_16", "correct_transparency", "has_sixteen_bits", "refuse_unknown_levels", "sixteen_bit_levels"]

WHITE_16 = 2**16 - 1
SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
SIXTEEN_BIT_FORMATS = ("PNG", "PPM", "TIFF", "JPEG2000")
SCALED_FORMATS = ("PNG", "PPM")
"""Formats whose mode I (32 bits) holds what the file has in up to 16 bits, scaled to 0 … 65535."""
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
"""Tags of TIFF 6.0."""
SIGNED = 2


def refuse_unknown_levels(image: Image.Image) -> None:
    """Raise a ValueError for levels of which nothing says how bright they are.

    Args:
        image: An opened file, not decoded yet.
    """
    advice = "of which nothing says what is white; save it with 8 or 16 bits"
    if image.mode == "F":
        raise ValueError(f"its levels are floats, {advice}")
    if SIGNED in _tag(image, SAMPLE_FORMAT):
        raise ValueError(f"its levels are signed numbers, {advice}")
    if image.mode == "I" and image.format not in SCALED_FORMATS:
        raise ValueError(f"its levels have 32 bits, {advice}")
    if image.mode in SIXTEEN_BIT_MODES and image.format not in SIXTEEN_BIT_FORMATS:
        raise ValueError(f"its levels are numbers of 16 bits in the format {image.format}, {advice}")


def has_sixteen_bits(image: Image.Image) -> bool:
    """Return whether an image is grey with more than 8 bits."""
    return image.mode in SIXTEEN_BIT_MODES or image.mode == "I"


def sixteen_bit_levels(image: Image.Image, stored: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Return the levels of an image of up to 16 bits, and which pixels are transparent.

    A TIFF of 12 bits has its white at 4095, and one may have its white at 0 (``WhiteIsZero``); Pillow leaves both as
    they are stored.

    Args:
        image: The turned picture.
        stored: The opened file, which has its tags.

    Returns:
        Levels, int64 ``[H, W]``, 0 … 65535 from black to white; and a mask, bool ``[H, W]``.
    """
    levels = np.asarray(image).astype(np.int64)
    transparent = levels == stored.info.get("transparency", -1)
    white = 2 ** min(min(_tag(stored, BITS_PER_SAMPLE), default=16), 16) - 1
    if white < WHITE_16:
        levels = (levels * WHITE_16 + white // 2) // white
    return WHITE_16 - levels if 0 in _tag(stored, PHOTOMETRIC) else levels, transparent


def correct_transparency(image: Image.Image) -> None:
    """Bring the transparent level of a PNG to the scale of the levels that Pillow has decoded.

    Levels of 2 and 4 bits are decoded to 8, and of colours of 16 bits the upper 8; the level that is transparent stays
    as it is stored.

    Args:
        image: An opened file, not decoded yet.
    """
    hidden = image.info.get("transparency")
    if not isinstance(image, ImageFile.ImageFile) or image.format != "PNG" or not image.tile:
        return
    raw_mode = image.tile[0][3]
    raw_mode = raw_mode[0] if isinstance(raw_mode, tuple) else raw_mode
    if raw_mode in ("L;2", "L;4") and isinstance(hidden, int):
        image.info["transparency"] = hidden * 255 // (2 ** int(raw_mode[-1]) - 1)
    elif raw_mode == "RGB;16B" and isinstance(hidden, tuple):
        image.info["transparency"] = tuple(level >> 8 for level in hidden)


def _tag(image: Image.Image, tag: int) -> tuple[int, ...]:
    """Return the values of a TIFF's tag; none where the file has none or is no TIFF."""
    value = image.tag_v2.get(tag, ()) if image.format == "TIFF" else ()  # type: ignore[attr-defined]
    return value if isinstance(value, tuple) else (value,)
