"""Strata of scoring images: images whose predictions an edit changes about equally often, by their margin."""

from torch import Tensor

__all__ = ["cut_strata"]

IMAGES_PER_STRATUM = 12  # planned sample size for each stratum of images that the base network gets right
MAX_STRATA = 8  # of images that the base network gets right; beyond, the sample size hardly falls any more
INNERMOST = 1 / 50  # part of the images with the smallest margins that are a stratum of their own


def cut_strata(margins: Tensor, planned_size: int) -> list[Tensor]:
    """Return the positions of the images of each stratum."""
    order = margins.abs().argsort(stable=True)
    right = margins[order] > 0
    num_strata = max(1, min(MAX_STRATA, planned_size // IMAGES_PER_STRATUM))
    return [*_cut(order[right], num_strata), *_cut(order[~right], max(1, num_strata // 2))]


def _cut(positions: Tensor, num_strata: int) -> list[Tensor]:
    """Cut positions at ranks in geometric progression, into at most ``num_strata`` parts of at least two."""
    ends = [round(len(positions) * INNERMOST ** (k / max(1, num_strata - 1))) for k in reversed(range(num_strata))]
    parts, start = [], 0
    for end in ends:
        if end - start >= 2 or (end == len(positions) > start):
            parts.append(positions[start:end])
            start = end
    return parts
