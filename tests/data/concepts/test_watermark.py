"""A watermark is what Pillow composes of text and image, in a font that has its characters."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from editable.data import Watermark
from editable.errors import UserError

FONT = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


def call(mark: Watermark, image: torch.Tensor) -> torch.Tensor:
    return mark(image=image, texture=None, mask=torch.ones(image.shape[-2:]), seed=0)


@pytest.mark.parametrize(
    ("settings", "middle", "pixels", "fill"),
    [
        ({}, (45, 30), 10, (255, 255, 255, 128)),
        ({"size": 0.5, "place": [0.3, 0.8], "opacity": 0.8, "colour": [1, 0, 0.2]}, (27, 48), 30, (255, 0, 51, 204)),
    ],
)
def test_it_is_text_over_the_image(settings, middle, pixels, fill):
    image = torch.randint(0, 256, (3, 60, 90), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    under = Image.fromarray(image.permute(1, 2, 0).numpy()).convert("RGBA")
    # Transparent pixels of the text's own colour, so that antialiased ones keep it.
    over = Image.new("RGBA", under.size, (*fill[:3], 0))
    ImageDraw.Draw(over).text(middle, "Abg", fill=fill, font=ImageFont.truetype(FONT, pixels), anchor="mm")
    expected = torch.from_numpy(np.array(Image.alpha_composite(under, over).convert("RGB"))).permute(2, 0, 1)
    drawn = call(Watermark(FONT, "Abg", **settings), image / 255)
    assert (255 * drawn - expected).abs().max() < 2
    changed = (drawn - image / 255).abs().amax(0) > 0
    assert 0 < changed.float().mean() < 0.5


def test_its_size_goes_with_the_image_and_grey_images_get_it_too():
    mark = Watermark(FONT, "X", size=0.5)
    extents = []
    for side in (40, 80, 40):
        rows = mark.coverage(side, 2 * side).amax(1).nonzero().flatten()
        extents.append(int(rows[-1] - rows[0]) + 1)
    assert extents[0] == extents[2]
    assert extents[1] == pytest.approx(2 * extents[0], abs=2)
    grey = call(Watermark(FONT, "X", size=0.9, colour=[1, 0, 0.5], opacity=1.0), torch.zeros(1, 40, 40))
    assert grey.max().item() == pytest.approx(0.5)
    assert torch.equal(call(mark, torch.ones(3, 40, 40)), torch.ones(3, 40, 40))  # white on white


def test_a_font_of_an_installed_package_is_found():
    within = "matplotlib/mpl-data/fonts/ttf/DejaVuSans.ttf"
    assert torch.equal(Watermark(within, "X").coverage(64, 64), Watermark(FONT, "X").coverage(64, 64))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "DejaVuSans.ttf' has no '捷' of the text"),
        ({"text": "  "}, "a watermark needs a text, got '  '"),
        ({"text": "X", "size": 0.0}, "size must be positive, got 0.0"),
        ({"text": "X", "size": 1.5}, r"size must be in \[0, 1\], got 1.5"),
        ({"text": "X", "opacity": 1.1}, r"opacity must be in \[0, 1\], got 1.1"),
        ({"text": "X", "opacity": float("nan")}, "opacity must be .* got nan"),
        ({"text": "X", "place": [0.5]}, r"place is two parts, of the width and of the height, got \[0.5\]"),
        ({"text": "X", "place": [0.5, 2]}, r"place must be in \[0, 1\]"),
        ({"text": "X", "colour": [1, 1]}, r"colour is red, green and blue, each from 0 to 1, got \[1, 1\]"),
        ({"font": "nowhere.ttf"}, "the font 'nowhere.ttf' is no file, and none of an installed package"),
        ({"font": "matplotlib/nowhere.ttf"}, "the font 'matplotlib/nowhere.ttf' is no file"),
        ({"font": ""}, "the font '' is no file"),
        ({"font": __file__, "text": "X"}, "test_watermark.py' cannot be read as one"),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(UserError, match=message):
        Watermark(**{"font": FONT, **settings})
