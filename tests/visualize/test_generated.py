"""Figures of generators are whole PNG files, and the same for the same images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from editable.visualize import plot_generated, plot_outlined, plot_samples
from tests.visualize.test_edits import assert_picture


def random(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.usefixtures("fine_figures")
@pytest.mark.parametrize("number", [1, 5, 20])
@pytest.mark.parametrize("channels", [1, 3])
def test_samples(number: int, channels: int, tmp_path: Path):
    plot_samples(tmp_path / "samples.png", random(number, channels, 8, 8))
    assert_picture(tmp_path / "samples.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_outlined_parts(channels: int, tmp_path: Path):
    masks = torch.zeros(3, 8, 8)
    masks[1, 2:4, 3:6] = 1
    plot_outlined(tmp_path / "rule.png", 0.2 * random(3, channels, 8, 8), masks, ["copy", "paste", "context"], 2)
    assert_picture(tmp_path / "rule.png")


def test_the_outline_follows_the_mask(tmp_path: Path):
    """Green is drawn around the one masked pixel of a black image, and nowhere without a mask."""
    masks = torch.zeros(1, 8, 8)
    greens = []
    for name, covered in (("none", 0.0), ("some", 0.4), ("all", 1.0)):
        masks[0, 3, 3] = covered
        plot_outlined(tmp_path / f"{name}.png", torch.zeros(1, 1, 8, 8), masks, [""])
        pixels = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(int)
        greens.append(int((pixels[..., 1] > pixels[..., 0] + 60).sum()))
    assert greens[0] == greens[1] == 0
    assert greens[2] > 20


@pytest.mark.parametrize(("number", "channels"), [(1, 1), (9, 3)])
def test_before_and_after(number: int, channels: int, tmp_path: Path):
    before, after = random(number, channels, 8, 8), random(number, channels, 8, 8).flip(0)
    heat_maps, matched = random(number, 8, 8) - 0.5, (random(number, 8, 8) > 0.9).float()
    titles = [str(i) for i in range(number)]
    for _ in range(2):
        plot_generated(tmp_path / "generated.png", before, after, heat_maps, matched, titles)
        assert_picture(tmp_path / "generated.png")


def test_nothing_changed_and_no_response(tmp_path: Path):
    images, empty = torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4)
    plot_generated(tmp_path / "generated.png", images, images, empty, empty, ["0", "1"])
    assert_picture(tmp_path / "generated.png")
