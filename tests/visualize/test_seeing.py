"""Figures of values traced back: what is drawn where, with one scale for all maps, and the same bytes each time."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from editable.visualize.seeing import StageCurves, plot_image_rows, plot_map_rows, plot_stages


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def share(path: Path, colour: tuple[int, int, int]) -> float:
    """Part of a figure's pixels of about a colour."""
    return float((np.abs(pixels(path) - np.array(colour)).max(axis=-1) < 12).mean())


def plain(colour: tuple[float, float, float], count: int = 2) -> torch.Tensor:
    return torch.tensor(colour).view(1, 3, 1, 1).expand(count, 3, 4, 4)


def test_each_row_of_images_is_drawn(tmp_path: Path):
    rows = {"red": plain((1.0, 0.0, 0.0)), "green": plain((0.0, 1.0, 0.0)), "blue": plain((0.0, 0.0, 1.0)).double()}
    plot_image_rows(tmp_path / "rows.png", rows, ["a", "b"])
    shares = [share(tmp_path / "rows.png", colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    assert min(shares) > 0.1
    assert max(shares) - min(shares) < 0.01
    plot_image_rows(tmp_path / "grey.png", {"grey": torch.full((1, 1, 4, 4), 0.5)}, ["a"])
    assert share(tmp_path / "grey.png", (127, 127, 127)) > 0.2


VIRIDIS = {"low": (68, 1, 84), "high": (253, 231, 37)}


def test_maps_share_one_scale(tmp_path: Path):
    maps = {"low": torch.zeros(2, 3, 3), "high": torch.ones(2, 3, 3).double()}
    plot_map_rows(tmp_path / "maps.png", maps, ["a", "b"], "value")
    for colour in VIRIDIS.values():
        assert share(tmp_path / "maps.png", colour) > 0.2


@pytest.mark.parametrize("size", [3, 12])
def test_the_concept_is_outlined_at_any_resolution(tmp_path: Path, size: int):
    maps, empty, mask = {"maps": torch.zeros(2, 3, 3)}, torch.zeros(2, size, size), torch.zeros(2, size, size)
    mask[:, size // 3 :] = maps["maps"][:, 0] = 1
    for name, some in (("none", None), ("empty", empty), ("mask", mask)):
        plot_map_rows(tmp_path / f"{name}.png", maps, ["a", "b"], "value", some)
    dark = {name: share(tmp_path / f"{name}.png", VIRIDIS["low"]) for name in ("none", "empty", "mask")}
    assert dark["none"] == dark["empty"]
    assert dark["mask"] < dark["none"] - 0.005  # a white line lies over the map


def test_maps_are_laid_over_images(tmp_path: Path):
    maps = {"a": torch.zeros(1, 3, 3), "b": torch.zeros(1, 3, 3)}
    maps["a"][0, 0, 0] = maps["b"][0, 0, 0] = 1
    images = {"a": torch.zeros(1, 3, 4, 4), "b": torch.ones(1, 3, 4, 4)}
    plot_map_rows(tmp_path / "over.png", maps, ["x"], "value", images=images)
    # Two fifths of what is below shine through the darkest colour of inferno, (0, 0, 4).
    assert share(tmp_path / "over.png", (0, 0, 2)) > 0.1
    assert share(tmp_path / "over.png", (102, 102, 104)) > 0.1


def test_constant_maps_have_one_colour(tmp_path: Path):
    plot_map_rows(tmp_path / "constant.png", {"a": torch.ones(1, 3, 3), "b": torch.ones(1, 3, 3)}, ["x"], "value")
    colours = Image.open(tmp_path / "constant.png").convert("RGB").getcolors(maxcolors=2**24)
    large = [colour for count, colour in colours if count > 0.05 * sum(count for count, _ in colours)]
    assert len(large) == 2  # that of the maps, and white


def curves(count: int) -> StageCurves:
    losses = torch.logspace(0, -4, 21, dtype=torch.float64)[:, None].expand(21, count)
    measured = {name: torch.linspace(0, level, 3).double()[:, None].expand(3, count) for name, level in LEVELS.items()}
    both = {when: {name: (-1) ** (when == "after") * some for name, some in measured.items()} for when in WHEN}
    return StageCurves("keys", "cosine", dict.fromkeys(WHEN, losses), torch.tensor([0, 10, 20]), both)


LEVELS, WHEN = {"original": 0.5, "manipulated": 1.0}, ("before", "after")


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """The figure of one stage."""
    path = tmp_path / "one.png"
    plot_stages(path, [curves(2)])
    return path


@pytest.mark.usefixtures("fine_figures")
def test_curves_of_each_stage_are_drawn_one_below_the_other(one: Path, tmp_path: Path):
    plot_stages(tmp_path / "two.png", [curves(1), curves(3)])
    first, two = pixels(one), pixels(tmp_path / "two.png")
    assert two.shape[1] == first.shape[1]
    assert two.shape[0] == pytest.approx(2 * first.shape[0], abs=3)
    for colour in ((204, 121, 167), (0, 158, 115), (213, 94, 0), (0, 0, 0)):  # purple, green, vermillion, black
        assert share(one, colour) > 2e-4


def test_the_same_arrays_give_the_same_figure(one: Path, tmp_path: Path):
    plot_stages(tmp_path / "again.png", [curves(2)])
    assert (tmp_path / "again.png").read_bytes() == one.read_bytes()
    for name in ("first", "second"):
        plot_map_rows(tmp_path / f"{name}.png", {"a": torch.eye(3)[None]}, ["x"], "value", torch.eye(6)[None])
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
