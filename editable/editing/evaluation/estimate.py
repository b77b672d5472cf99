"""The estimated mean drawdown of some edits, with an interval that says how sure we are."""

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["NORMAL_QUANTILE", "DrawdownEstimate", "merge_estimates"]

NORMAL_QUANTILE = 1.959964  # 97.5 %, for an interval of 95 %


class DrawdownEstimate(NamedTuple):
    """Estimated drawdown of some edits as sums, so that estimates of other edits are added field by field.

    Attributes:
        num_edits: E, the number of edits seen, those of 0 steps included.
        drawdown_sum: Sum of the edits' drawdowns, as fractions.
        variance_sum: Sum of the estimated variances of the edits' drawdowns.
        third_moment_sum: Sum of the estimated third central moments of the edits' drawdowns.
        forward_passes: Images looked at, the pilot's included.
    """

    num_edits: int
    drawdown_sum: float
    variance_sum: float
    third_moment_sum: float
    forward_passes: int

    @property
    def drawdown(self) -> float:
        """Mean drawdown, as a fraction of the scoring images; NaN without edits."""
        return self.drawdown_sum / self.num_edits if self.num_edits else float("nan")

    @property
    def half_width(self) -> float:
        r"""Half-width h of the 95 % interval around :attr:`drawdown`; 0 where every image was looked at.

        An estimate that by chance is low comes with a variance that is low. As the score interval (Wilson 1927) does
        for a proportion, h takes the variance at the end of the interval that lies where the variance is larger,

        .. math:: h^2 = z^2 \left(V + \frac{|M_3|}{V} h\right), \qquad z = 1.96,

        where V and M₃, variance and third moment of the mean, give the slope of the variance: M₃ is its covariance with
        the mean (Zhang 2007, "Sample mean and sample variance: their covariance and their (in)dependence").
        """
        if not self.num_edits:
            return float("nan")
        slope = abs(self.third_moment_sum) / self.variance_sum if self.variance_sum else 0.0
        shift = NORMAL_QUANTILE**2 * slope / 2
        return (shift + (NORMAL_QUANTILE**2 * self.variance_sum + shift**2) ** 0.5) / self.num_edits


def merge_estimates(estimates: Iterable[DrawdownEstimate]) -> DrawdownEstimate:
    """Add up estimates of different edits, such as those of each rank, drawn with different seeds."""
    empty = DrawdownEstimate(0, 0.0, 0.0, 0.0, 0)
    return DrawdownEstimate(*(sum(field) for field in zip(empty, *estimates, strict=True)))
