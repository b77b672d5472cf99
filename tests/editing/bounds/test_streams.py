"""The risks of all tests of a stream, over all histories, sum up to no more than was agreed."""

from math import comb, pi

import pytest

from editable.editing import stream_risk


@pytest.mark.parametrize("risk", [0.05, 0.2])
def test_sum_over_all_histories_is_at_most_the_risk(risk: float):
    """A history of n − 1 decisions has r refusals; there are (n − 1 choose r) such, each with its own test."""
    total = sum(comb(n - 1, r) * stream_risk(risk, n, r) for n in range(1, 150) for r in range(n))
    assert 0.65 * risk < total <= risk


def test_sum_without_refusals_is_the_risk():
    assert sum(stream_risk(0.05, n) for n in range(1, 20_000)) == pytest.approx(0.05, rel=1e-4)


@pytest.mark.parametrize(("number", "refused"), [(1, 0), (2, 0), (2, 1), (10, 3), (400, 7)])
def test_formula(number: int, refused: int):
    expected = 0.05 * 6 / (pi * number) ** 2 * 6 / (pi * (refused + 1)) ** 2 / comb(number - 1, refused)
    assert stream_risk(0.05, number, refused) == pytest.approx(expected, rel=1e-9)
    assert stream_risk(0.05, number) == pytest.approx(0.05 * 6 / (pi * number) ** 2, rel=1e-12)


def test_histories_beyond_numbers_have_no_risk_left():
    assert stream_risk(0.05, 4000, 2000) == 0
