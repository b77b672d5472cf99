"""The interval of an estimated drawdown follows its formula, and estimates of different edits add up."""

import math

import pytest

from editable.editing import DrawdownEstimate, merge_estimates


def test_merged_estimates_follow_the_formula() -> None:
    first, second = DrawdownEstimate(3, 0.3, 0.02, 0.001, 100), DrawdownEstimate(1, 0.5, 0.07, 0.002, 50)
    merged = merge_estimates([first, second])
    assert merged.drawdown == pytest.approx(0.2)
    assert merged.forward_passes == 150
    # The half-width solves h² = z² (V + M₃ h / V), with the moments of the mean of four edits.
    variance, third, h = 0.09 / 4**2, 0.003 / 4**3, merged.half_width
    assert h**2 == pytest.approx(1.959964**2 * (variance + third / variance * h))
    assert math.isnan(merge_estimates([]).drawdown)
    assert math.isnan(merge_estimates([]).half_width)


def test_half_width_without_skewness_is_the_normal_one() -> None:
    assert DrawdownEstimate(4, 0.8, 0.09, 0.0, 1).half_width == pytest.approx(1.959964 * 0.3 / 4)
