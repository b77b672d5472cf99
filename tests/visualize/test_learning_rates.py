"""The figure of a search is a whole PNG file, also of a single rate, without intervals, and without a chosen rate."""

from pathlib import Path

import pytest

from editable.visualize import plot_learning_rates
from tests.visualize.test_edits import assert_picture


@pytest.mark.parametrize("number", [1, 2, 9])
@pytest.mark.parametrize("half_width", [None, 0.002])
@pytest.mark.parametrize("found", [True, False])
def test_learning_rates(number: int, half_width: float | None, found: bool, tmp_path: Path):
    rates = [1e-6 * 10 ** (i / 2) for i in range(number)]
    drawdown = [-0.001 + 0.9 * (i / 9) ** 3 for i in range(number)]
    success = [(i + 1) / number for i in range(number)]
    chosen = rates[-1] if found else None
    plot_learning_rates(tmp_path / "search.png", rates, drawdown, [half_width] * number, success, 0.95, chosen)
    assert_picture(tmp_path / "search.png")
