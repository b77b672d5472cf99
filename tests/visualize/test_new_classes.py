"""Figures of new classes are drawn from whatever a run may bring."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from editable.visualize.new_classes import plot_filter_maps, plot_negative_weights, plot_new_class_roc


def colours(path: Path) -> int:
    with Image.open(path) as image:
        return len(image.convert("RGB").getcolors(maxcolors=2**24))


@pytest.mark.parametrize("channels", [1, 3])
def test_filter_maps(tmp_path: Path, channels: int):
    maps = torch.rand(2, 4, 3)
    plot_filter_maps(tmp_path / "maps.png", torch.rand(2, channels, 8, 6), maps, maps, maps, ["new", "other"])
    assert colours(tmp_path / "maps.png") > 20


def test_roc_curves_of_one_and_of_several_draws(tmp_path: Path):
    line = torch.tensor([0.0, 0.2, 1.0], dtype=torch.float64)
    for draws in (1, 3):
        curves = {"filter": [(line, line.sqrt(), 0.7)] * draws, "random": [(line, line, 0.5)] * draws}
        plot_new_class_roc(tmp_path / "roc.png", curves)
        assert colours(tmp_path / "roc.png") > 20


def test_negative_weights_with_and_without_negatives(tmp_path: Path):
    areas = [[0.5, 0.6], [0.7, 0.8]]
    for active in (areas, [[float("nan")] * 2] * 2):
        plot_negative_weights(tmp_path / "weights.png", [0.0, 0.01], areas, areas, active, {"random": 0.5})
        assert colours(tmp_path / "weights.png") > 20
    plot_negative_weights(tmp_path / "weights.png", [0.0], areas[:1], areas[:1], areas[:1])
