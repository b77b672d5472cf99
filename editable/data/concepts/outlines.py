"""Outlines in JSON: a polygon, several of them, or a box, as polygons."""

from typing import Any

import numpy as np

from editable.errors import UserError

__all__ = ["OUTLINES", "read_outlines"]

OUTLINES = ("polygon", "polygons", "box", "mask")
"""The keys by which an entry of a JSON file may say where something is; ``mask`` names an image file."""


def read_outlines(key: str, value: Any, where: str) -> tuple[np.ndarray, ...]:
    """Return the polygons that an entry names.

    Args:
        key: ``polygon``, ``[[x, y], …]``; ``polygons``, a list of them; or ``box``, ``[left, top, right, bottom]``.
        value: What stands under the key.
        where: The entry, for messages.

    Returns:
        Vertices of each polygon, float ``[k, 2]``, at least three.

    Raises:
        UserError: The value is of another form.
    """
    if key == "box":
        box = _numbers(value)
        if box.shape != (4,):
            raise UserError(
                f"The box of {where} must be [left, top, right, bottom] in numbers of pixels, got {value!r}."
            )
        left, top, right, bottom = box.tolist()
        return (np.array([[left, top], [right, top], [right, bottom], [left, bottom]]),)
    polygons = value if key == "polygons" else [value]
    if not isinstance(polygons, list) or not polygons:
        raise UserError(f"polygons of {where} must be a list of polygons, each [[x, y], …].")
    return tuple(_polygon(polygon, where) for polygon in polygons)


def _polygon(value: Any, where: str) -> np.ndarray:
    points = _numbers(value)
    if points.size == 0 or (points.ndim == 2 and points.shape[1] == 2 and len(points) < 3):
        raise UserError(f"A polygon of {where} must have at least 3 points, but has {points.size // 2}.")
    if points.ndim != 2 or points.shape[1] != 2:
        raise UserError(
            f"The polygon of {where} must be [[x, y], …] in numbers of pixels, of at least 3 points, got {value!r}."
        )
    return points


def _numbers(value: Any) -> np.ndarray:
    """Return finite numbers as an array, anything else as a number by itself, which is no outline."""
    try:
        numbers = np.array(value, dtype=float)
    except (TypeError, ValueError):
        return np.array(np.nan)
    return numbers if np.isfinite(numbers).all() else np.array(np.nan)
