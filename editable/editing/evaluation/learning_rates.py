"""Choosing an editor's learning rate: the rates to try, and which of them is the best."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from editable.errors import UserError, require_finite, require_positive, require_whole

__all__ = ["RateOutcome", "choose_learning_rate", "learning_rate_grid"]


class RateOutcome(NamedTuple):
    """What the same edits came to at one learning rate.

    Attributes:
        learning_rate: Of the editor's update rule.
        success_rate: Part of the edits whose objective reached ≤ 0.
        num_steps: Mean number of updates; a failed edit counts with all that it made.
        drawdown: Mean change of the error rate on the scoring images, as a fraction.
        half_width: Of the 95 % interval around ``drawdown``; none where all images were looked at.
        num_sampled_images: Number of images looked at, over all edits; none where these were all.
    """

    learning_rate: float
    success_rate: float
    num_steps: float
    drawdown: float
    half_width: float | None = None
    num_sampled_images: int | None = None


def learning_rate_grid(lowest: float, highest: float, per_decade: int) -> list[float]:
    r"""Return learning rates from the lowest to the highest, both included, evenly spaced on a logarithmic scale.

    .. math:: \alpha_i = \alpha_0 (\alpha_n / \alpha_0)^{i/n}, \qquad
       n = \lceil p \log_{10} (\alpha_n / \alpha_0) \rceil

    Rates between the ends are rounded to two significant digits, or as many more as keep them apart.

    Args:
        lowest: α₀ > 0.
        highest: αₙ ≥ α₀.
        per_decade: p, the least number of rates in each factor of ten.

    Raises:
        UserError: If an argument is out of its range.

    Example:
        >>> learning_rate_grid(1e-4, 1e-2, per_decade=2)
        [0.0001, 0.00032, 0.001, 0.0032, 0.01]
    """
    require_whole(1, 1000, per_decade=per_decade)
    require_positive(lowest=lowest, highest=highest)
    if lowest > highest:
        raise UserError(f"lowest must be at most highest, which is {highest}, got {lowest}")
    intervals = math.ceil(per_decade * math.log10(highest / lowest) - 1e-9)
    inner = [lowest * (highest / lowest) ** (i / intervals) for i in range(1, intervals)]
    for digits in range(2, 18):
        rates = [lowest, *(float(f"{rate:.{digits}g}") for rate in inner), highest]
        if all(rate < following for rate, following in itertools.pairwise(rates)):
            return rates
    return sorted({lowest, highest})


def choose_learning_rate(outcomes: Sequence[RateOutcome], min_success: float) -> RateOutcome | None:
    """Return the outcome of least drawdown among those with enough successes; none where no rate has enough.

    Among equals the lowest rate is chosen.

    Args:
        outcomes: Of each rate.
        min_success: Least success rate, as a fraction.

    Raises:
        UserError: If that is no finite number.
    """
    require_finite(min_success=min_success)
    enough = [outcome for outcome in outcomes if outcome.success_rate >= min_success]
    return min(enough, key=lambda outcome: (outcome.drawdown, outcome.learning_rate), default=None)
