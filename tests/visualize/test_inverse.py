"""Figures of rewrites in the inverse direction are drawn for any number of methods and sets."""

from pathlib import Path

import pytest
from PIL import Image

from editable.visualize.inverse import plot_survival, plot_trade_off

METHODS = [f"method {number}" for number in range(8)]


def colours(path: Path) -> int:
    with Image.open(path) as image:
        return len(image.convert("RGB").getcolors(maxcolors=2**24))


@pytest.mark.usefixtures("fine_figures")
@pytest.mark.parametrize("sets", [["test images"], ["test images", "held-out images with the new concept"]])
def test_survival(tmp_path: Path, sets: list[str]):
    residuals = {method: 10.0**-number for number, method in enumerate(METHODS)} | {"method 7": 0.0}
    accuracies = {name: {method: number / 8 for number, method in enumerate(METHODS)} for name in sets}
    plot_survival(tmp_path / "figure.png", residuals, accuracies, dict.fromkeys(sets, 0.9))
    assert colours(tmp_path / "figure.png") > 20
    with Image.open(tmp_path / "figure.png") as image:
        assert image.width > 500 * len(sets)


def test_trade_off(tmp_path: Path):
    gains = {method: [0.01, 0.02 * number] for number, method in enumerate(METHODS)}
    drops = {method: [0.0, -0.01 * number] for number, method in enumerate(METHODS)}
    plot_trade_off(tmp_path / "figure.png", gains, drops, "exemplars", "test images")
    assert colours(tmp_path / "figure.png") > 20


def test_the_same_figures_give_the_same_bytes(tmp_path: Path):
    for name in ("first.png", "second.png"):
        plot_trade_off(tmp_path / name, {"a": [0.1]}, {"a": [0.01]}, "exemplars", "test images")
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
