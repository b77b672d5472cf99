"""Polygons as masks: the share of each pixel that lies inside."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["polygon_mask"]

LINES = 16
"""Scan lines in a row of pixels."""

BAND = 64
"""Rows of pixels that are worked on at once, which bounds the memory."""


def polygon_mask(polygons: Sequence[np.ndarray], size: tuple[int, int]) -> Tensor:
    """Return the share of each pixel's area that the union of polygons covers.

    Vertices are ``(x, y)`` in continuous pixels: pixel i covers ``[i, i + 1)``. A polygon that crosses itself is filled
    by the even-odd rule; what lies outside of the image is cut off.

    Along x the coverage is exact, along y the mean of 16 scan lines in a row of pixels. So the sum of the mask *is* the
    polygon's area where the vertices lie on multiples of 1/16 pixel inside the image; else a pixel on the outline may
    be wrong by up to 1/16.

    Args:
        polygons: the vertices of each polygon, ``[k, 2]``, the last one joined to the first.
        size: height and width of the image, in pixels.

    Returns:
        The mask, float32 ``[H, W]`` in [0, 1].
    """
    height, width = size
    bands = [_coverage(polygons, np.arange(top, min(top + BAND, height)), width) for top in range(0, height, BAND)]
    return torch.from_numpy(np.concatenate(bands)).float().clamp(0, 1)


def _coverage(polygons: Sequence[np.ndarray], rows: np.ndarray, width: int) -> np.ndarray:
    lines = (rows[:, None] + (np.arange(LINES) + 0.5) / LINES).flatten()
    intervals = np.concatenate([_intervals(polygon, lines) for polygon in polygons], axis=1).clip(0, width)
    intervals = np.take_along_axis(intervals, intervals[..., :1].argsort(axis=1), axis=1)
    columns = np.arange(width)
    covered = np.zeros((len(lines), width))
    reached = np.zeros(len(lines))
    for start, stop in intervals.transpose(1, 2, 0):
        start = np.maximum(start, reached)  # what an interval further left has covered already
        reached = np.maximum(start, stop)
        covered += (reached[:, None] - columns).clip(0, 1) - (start[:, None] - columns).clip(0, 1)
    return covered.reshape(len(rows), LINES, width).mean(axis=1)


def _intervals(polygon: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Return where each scan line is inside: ``[lines, pairs, 2]``, start and stop, padded with empty ones at +∞."""
    (x, y), (next_x, next_y) = polygon.T[..., None], np.roll(polygon, -1, axis=0).T[..., None]
    crosses = (y <= lines) != (next_y <= lines)
    rise = np.where(next_y == y, 1.0, next_y - y)
    crossings = np.sort(np.where(crosses, x + (lines - y) * (next_x - x) / rise, np.inf), axis=0)
    most = int(crosses.sum(axis=0).max(initial=0))  # even: a closed outline comes back to the side where it began
    return crossings[:most].T.reshape(len(lines), most // 2, 2)
