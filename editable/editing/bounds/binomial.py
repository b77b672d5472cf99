"""Upper bounds of a rate from a count: exact ones, of the binomial distribution."""

import math
from typing import Any

import scipy.special
import torch
from torch import Tensor

from editable.errors import UserError, require_at_least, require_within

__all__ = ["bound_at_risk", "images_needed", "tail_probability", "upper_bound"]


def upper_bound(count: Tensor | int, num_images: int, level: float = 0.95) -> Tensor:
    r"""Return the rate that is not exceeded at a confidence level, given how many of n images were counted.

    The one-sided bound of Clopper and Pearson (Biometrika 1934), the level's quantile of Beta(b + 1, n − b): the
    largest rate p at which b or fewer would still be counted with probability δ = 1 − level,

    .. math:: \sum_{i=0}^{b} \binom{n}{i} p^i (1 - p)^{n - i} = δ

    It holds with at least that probability over draws of the images, for images like them, and under no shift. Images
    that chose an editor, a constant or a candidate give no bound: see :func:`candidate_bounds` and
    :class:`HarmBudget`.

    Args:
        count: b, such as images that an edit has broken: right before, wrong now; integers [...].
        num_images: n, all images that were looked at.
        level: Such as 0.95.

    Returns:
        Fractions of images, float64 [...].

    Raises:
        UserError: If a number is out of its range.

    Example:
        >>> f"{upper_bound(0, 10_000).item():.4%}"
        '0.0300%'
    """
    require_within("(0, 1)", level=level)
    return bound_at_risk(count, num_images, 1 - level)


def bound_at_risk(count: Tensor | int, num_images: int, risk: float) -> Tensor:
    """Return :func:`upper_bound` at the level 1 − risk, also where that rounds to 1; a risk of 0 gives 1."""
    counts = checked_counts(count, num_images)
    require_within("[0, 1)", risk=risk)
    some = counts.double()
    # 1 − p has the mirrored distribution, in which a small risk keeps all its digits
    rest = scipy.special.betaincinv((num_images - some).clamp(min=1).numpy(), (some + 1).numpy(), risk)
    return torch.where(counts == num_images, 1.0, 1 - torch.as_tensor(rest, dtype=torch.float64))


def tail_probability(count: Tensor | int, num_images: int, rate: float) -> Tensor:
    """Return the probability that at most so many of n images are counted at a rate, float64 [...].

    It is the p-value of the hypothesis that the rate is that or higher, and at most δ exactly where the upper bound
    at the level 1 − δ is at most the rate.

    Args:
        count: Integers [...].
        num_images: n.
        rate: In (0, 1).

    Raises:
        UserError: If a number is out of its range.
    """
    counts = checked_counts(count, num_images)
    require_within("(0, 1)", rate=rate)
    return torch.as_tensor(scipy.special.bdtr(counts.double().numpy(), num_images, rate), dtype=torch.float64)


def images_needed(budget: float, level: float = 0.95) -> int:
    """Return how many images show that a rate is within a budget if none of them is counted.

    ⌈ln(1 − level) / ln(1 − budget)⌉: 1197 for a quarter of a point at 95 %.

    Raises:
        UserError: If a number is not in (0, 1).
    """
    require_within("(0, 1)", budget=budget, level=level)
    return images_needed_at_risk(budget, 1 - level)


def images_needed_at_risk(budget: float, risk: float) -> int:
    """Return :func:`images_needed` at the level 1 − risk, for a risk above 0."""
    return math.ceil(math.log(risk) / math.log1p(-budget))


def checked_counts(count: Any, num_images: int) -> Tensor:
    """Return counts as int64 [...] on the CPU, or raise a :class:`UserError` where there can be no such count."""
    require_at_least(1, num_images=num_images)
    try:
        counts = torch.as_tensor(count).cpu()
        wrong = counts.dtype == torch.bool or bool(((counts < 0) | (counts > num_images) | (counts % 1 != 0)).any())
    except (TypeError, ValueError, RuntimeError, OverflowError):
        wrong = True
    if wrong:
        raise UserError(f"count must be a number of images, of the {num_images} that were looked at, got {count}")
    return counts.long()
