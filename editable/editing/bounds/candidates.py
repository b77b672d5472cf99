"""Which of several candidates are within a budget, when all are judged on the same images."""

import torch
from torch import Tensor

from editable.editing.bounds.binomial import bound_at_risk, checked_counts, tail_probability
from editable.errors import UserError, require_within

__all__ = ["candidate_bounds", "certified_in_order"]


def candidate_bounds(counts: Tensor, num_images: int, level: float = 0.95) -> Tensor:
    """Return upper bounds that hold for all K candidates at once, so that any of them may be chosen by them.

    Each has a K-th of the risk (Bonferroni). Where bounds of candidates are compared with a budget, this is
    Learn-then-Test with binomial p-values (Angelopoulos et al., 2021, arXiv:2110.01052).

    Args:
        counts: Of images that each candidate has broken, integers [K].
        num_images: All that were looked at, the same ones for each candidate.
        level: Of all bounds together.

    Returns:
        Fractions of images, float64 [K].

    Raises:
        UserError: If there is no candidate, or a number is out of its range.
    """
    require_within("(0, 1)", level=level)
    return bound_at_risk(counts, num_images, (1 - level) / _number(counts))


def certified_in_order(counts: Tensor, num_images: int, budget: float, level: float = 0.95) -> Tensor:
    """Tell which of K candidates are within a budget, in an order that was fixed before the images were looked at.

    Learn-then-Test with fixed-sequence testing (Angelopoulos et al., 2021): each is tested with the whole risk, until
    the first that fails; all behind it are not certified. It takes fewer images than :func:`candidate_bounds` where the
    order is good, such as by a growing strength of the same edit.

    Args:
        counts: Of images that each candidate has broken, in that order, integers [K].
        num_images: All that were looked at, the same ones for each candidate.
        budget: Largest fraction of images that may be broken.
        level: The probability that none is certified that breaks more.

    Returns:
        bool [K]: some first ones.

    Raises:
        UserError: If there is no candidate, or a number is out of its range.
    """
    require_within("(0, 1)", budget=budget, level=level)
    _number(counts)
    passes = tail_probability(checked_counts(counts, num_images), num_images, budget) <= 1 - level
    return passes.long().cumprod(dim=0).bool()


def _number(counts: Tensor) -> int:
    if torch.as_tensor(counts).ndim != 1 or not len(counts):
        raise UserError(f"there must be a count for each candidate, at least one, got {torch.as_tensor(counts)}")
    return len(counts)
