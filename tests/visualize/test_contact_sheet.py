"""A contact sheet shows three pictures of each image, in rows of three images."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from editable.visualize.contact_sheet import plot_contact_sheet


def colours(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as image:
        return {colour for count, colour in image.convert("RGB").getcolors(maxcolors=2**24) if count > 500}


@pytest.mark.parametrize("channels", [1, 3])
def test_original_mask_and_manipulated_are_seen(tmp_path: Path, channels: int):
    originals, manipulated = torch.full((1, channels, 8, 8), 1 / 5), torch.full((1, channels, 8, 8), 4 / 5)
    masks = torch.zeros(1, 8, 8)
    masks[:, :4] = 1
    plot_contact_sheet(tmp_path / "sheet.png", originals, manipulated, masks, ["cat/" + 40 * "long" + ".jpg"])
    seen = colours(tmp_path / "sheet.png")
    assert {(51,) * 3, (204,) * 3, (10,) * 3} <= seen  # 255/5, 4 · 255/5, a fifth of 255/5


def test_it_grows_with_the_number_of_images(tmp_path: Path):
    sizes = []
    for count in (1, 3, 4):
        images = torch.rand(count, 3, 8, 8)
        plot_contact_sheet(tmp_path / "sheet.png", images, images, torch.ones(count, 8, 8), list("x" * count))
        with Image.open(tmp_path / "sheet.png") as image:
            sizes.append(image.size)
    widths, heights = zip(*sizes, strict=True)
    assert widths[0] < widths[1] == widths[2]
    assert heights[0] == heights[1] < heights[2]
