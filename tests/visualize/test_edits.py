"""Figures of edits are written as whole PNG files, also in the corner cases."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from editable.visualize import plot_drawdown, plot_edited_images, plot_success


def assert_picture(path: Path) -> None:
    """The file is a PNG that decodes, is not blank, and has nothing left beside it."""
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 50
        assert len(set(picture.convert("L").tobytes())) > 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("number", [1, 3, 8, 9])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [None, ["cat", "dog", "frog"]])
def test_edited_images(number: int, channels: int, classes: list[str] | None, tmp_path: Path):
    images = torch.rand(number, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(number + 2) % 3
    plot_edited_images(tmp_path / "edits.png", images, labels, labels.flip(0), classes)
    assert_picture(tmp_path / "edits.png")


def test_images_fill_rows(tmp_path: Path):
    images, labels = torch.rand(5, 1, 8, 8), torch.zeros(5, dtype=torch.int64)
    sizes = []
    for columns in (5, 3, 1):
        path = tmp_path / str(columns) / "edits.png"
        plot_edited_images(path, images, labels, labels, columns=columns)
        with Image.open(path) as picture:
            sizes.append(picture.size)
    widths, heights = zip(*sizes, strict=True)
    assert widths[0] > widths[1] > widths[2]
    assert heights[0] < heights[1] < heights[2]


@pytest.mark.parametrize(
    "values",
    [[0.0], [0.0, 0.0, 0.0], [0.25, 0.25], [-0.5, -0.5], [-0.01, 0.0, 0.02, 0.9]],
    ids=["one", "none", "all-equal", "all-negative", "mixed"],
)
def test_drawdown(values: list[float], tmp_path: Path):
    plot_drawdown(tmp_path / "drawdown.png", {"edited": torch.tensor(values, dtype=torch.float64)})
    assert_picture(tmp_path / "drawdown.png")


def test_drawdown_of_several_networks(tmp_path: Path):
    drawdown = {"baseline": torch.rand(20).double(), "editable": torch.zeros(3)}
    plot_drawdown(tmp_path / "drawdown.png", drawdown)
    assert_picture(tmp_path / "drawdown.png")


@pytest.mark.parametrize(
    ("success", "num_steps"),
    [
        ([True], [0]),
        ([False], [0]),
        ([True, True], [0, 0]),
        ([False, False], [10, 10]),
        ([True, False, True], [1, 10, 3]),
    ],
)
def test_success(success: list[bool], num_steps: list[int], tmp_path: Path):
    outcomes = (torch.tensor(success), torch.tensor(num_steps))
    plot_success(tmp_path / "success.png", {"edited": outcomes, "other": outcomes})
    assert_picture(tmp_path / "success.png")


def test_parents_are_made_and_an_old_figure_is_replaced(tmp_path: Path):
    path = tmp_path / "report" / "figures" / "drawdown.png"
    for value in (0.1, 0.3):
        plot_drawdown(str(path), {"edited": torch.tensor([value, 0.0])})
        assert_picture(path)


def test_a_png_whatever_its_name(tmp_path: Path):
    plot_drawdown(tmp_path / "drawdown", {"edited": torch.tensor([0.1])})
    assert_picture(tmp_path / "drawdown")
