"""Clopper–Pearson bounds against sums of binomial probabilities, as whole numbers write them."""

from fractions import Fraction
from math import comb

import pytest
import torch

from editable.editing import images_needed, tail_probability, upper_bound
from editable.editing.bounds.binomial import bound_at_risk
from editable.errors import UserError


def tail(count: int, number: int, rate: Fraction) -> Fraction:
    """P(Bin(n, p) ≤ b), exactly."""
    return sum((comb(number, i) * rate**i * (1 - rate) ** (number - i) for i in range(count + 1)), Fraction(0))


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(("count", "number"), [(0, 1), (0, 7), (3, 7), (6, 7), (1, 60), (30, 60), (5, 300)])
def test_at_the_bound_so_few_are_counted_with_the_risk(count: int, number: int, level: float):
    bound = upper_bound(count, number, level).item()
    assert float(tail(count, number, Fraction(bound))) == pytest.approx(1 - level, rel=1e-9)


@pytest.mark.parametrize(("count", "number"), [(0, 7), (3, 7), (2, 60)])
def test_a_tiny_risk_keeps_its_digits(count: int, number: int):
    bound = bound_at_risk(count, number, 1e-9).item()
    assert float(tail(count, number, Fraction(bound))) == pytest.approx(1e-9, rel=1e-4)


def test_table_values():
    """The rule of three, and what everything broken tells: nothing."""
    assert upper_bound(0, 10_000).item() == pytest.approx(1 - 0.05**1e-4, rel=1e-12)
    assert upper_bound(0, 10_000).item() <= 0.0003
    assert upper_bound(0, 1200).item() <= 0.0025 < upper_bound(0, 1190).item()
    assert upper_bound(7, 7).item() == 1
    assert bound_at_risk(3, 7, 0.0).item() == 1
    # Clopper and Pearson's 95 % two-sided interval of 10 in 100 ends at 0.1762 (their 97.5 % bound)
    assert upper_bound(10, 100, 0.975).item() == pytest.approx(0.1762, abs=5e-5)


def test_more_counted_more_sure_or_fewer_images_raise_the_bound():
    counts = torch.arange(51)
    bounds = upper_bound(counts, 50)
    assert (bounds.diff() > 0).all()
    assert (upper_bound(counts[:-1], 50, 0.99) > bounds[:-1]).all()
    assert (upper_bound(counts[:-1], 100) < bounds[:-1]).all()
    assert (bounds[:-1] > counts[:-1] / 50).all()
    assert upper_bound(counts.reshape(3, 17), 50).shape == (3, 17)


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.9])
def test_tail_probability(rate: float):
    counts = torch.arange(21)
    expected = [float(tail(count, 20, Fraction(rate))) for count in counts.tolist()]
    assert tail_probability(counts, 20, rate).tolist() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("budget", [0.0025, 0.005, 0.1, 0.5])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
def test_images_needed_are_the_fewest(budget: float, level: float):
    number = images_needed(budget, level)
    assert (1 - budget) ** number <= 1 - level + 1e-12 < (1 - budget) ** (number - 1) + 2e-12
    assert upper_bound(0, number, level).item() <= budget + 1e-12
    assert images_needed(0.0025) == 1197


@pytest.mark.parametrize("count", [-1, 11, 2.5, True, torch.tensor([3, 12])])
def test_what_is_no_count(count):
    with pytest.raises(UserError, match="of the 10 that were looked at"):
        upper_bound(count, 10)
