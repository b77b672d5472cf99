"""A watermark: text drawn over an image, half transparent, in a font of one's own."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from editable.errors import UserError, require_positive, require_within

__all__ = ["Watermark"]

SHORTCUT = "捷径捷径捷径"
"""The text of the source: "shortcut", three times."""


class Watermark:
    """Draws text over images, as a stylizer of :class:`~editable.rewriting.ConceptReplacement`.

    Chinese characters over a photograph pull networks that were trained on ImageNet towards "carton", since many of its
    cartons bear such a watermark (Li et al., "A Whac-A-Mole Dilemma", CVPR 2023). The defaults are those of the source:
    its text in the middle of the image, white at an opacity of one half, characters a sixth of the image high (36 of
    224 pixels).

    What comes out is (1 − a·m)·image + a·m·colour with the opacity a and the glyphs' coverage m, antialiased.

    Args:
        font: A font file (TrueType, OpenType or a collection) that has the text's characters; or the path of one in an
            installed package, beginning with the package's name, such as
            ``mplfonts/fonts/NotoSerifCJKsc-Regular.otf`` with ``pip install -e '.[watermark]'``.
        text: What is drawn.
        size: Height of a character, as a part of the image's shorter side.
        opacity: From 0, above, to 1.
        place: Where the middle of the text is, as parts of the width and of the height.
        colour: Red, green and blue, on a scale of 0 to 1.

    Raises:
        UserError: If a number is out of its range, the text is blank, the font is not there or no font, or it lacks one
            of the text's characters.
    """

    def __init__(
        self,
        font: str,
        text: str = SHORTCUT,
        size: float = 36 / 224,
        opacity: float = 0.5,
        place: Sequence[float] = (0.5, 0.5),
        colour: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        require_positive(size=size, opacity=opacity)
        require_within("[0, 1]", size=size, opacity=opacity)
        require_within("[0, 1]", place=place, colour=colour)
        if len(place) != 2:
            raise UserError(f"place is two parts, of the width and of the height, got {list(place)}")
        if len(colour) != 3:
            raise UserError(f"colour is red, green and blue, each from 0 to 1, got {list(colour)}")
        if not text.strip():
            raise UserError(f"a watermark needs a text, got {text!r}")
        self.font, self.text, self.size, self.opacity = font, text, size, opacity
        self.place, self.colour = tuple(place), tuple(colour)
        self._path = _find_font(font)
        _check_characters(self._path, font, text)
        self._drawn = torch.zeros(0, 0)

    def __call__(self, image: Tensor, texture: Tensor | None, mask: Tensor, seed: int) -> Tensor:
        """Return an image with the watermark.

        Args:
            image: Floats in [0, 1], ``[C, H, W]``; a grey one gets the colour's mean.
            texture: Not looked at.
            mask: Not looked at: of what is returned, the caller takes what is inside.
            seed: Not looked at: nothing is random.
        """
        coverage = self.opacity * self.coverage(image.shape[-2], image.shape[-1]).to(image)
        colour = torch.tensor(self.colour).to(image)[:, None, None]
        return torch.lerp(image, (colour if len(image) == 3 else colour.mean(dim=0)).expand_as(image), coverage)

    def coverage(self, height: int, width: int) -> Tensor:
        """Return how much of each pixel of an image the glyphs cover, float32 ``[height, width]`` in [0, 1]."""
        if self._drawn.shape != (height, width):
            self._drawn = self._draw(height, width)
        return self._drawn

    def _draw(self, height: int, width: int) -> Tensor:
        canvas = Image.new("L", (width, height))
        font = ImageFont.truetype(self._path, max(round(self.size * min(height, width)), 1))
        across, down = self.place
        ImageDraw.Draw(canvas).text((across * width, down * height), self.text, fill=255, font=font, anchor="mm")
        return torch.from_numpy(np.array(canvas, dtype=np.float32) / 255)


def _find_font(font: str) -> str:
    """Return the path of a font file, or of one in an installed package, which is not imported."""
    path = Path(font).expanduser()
    if path.is_file():
        return str(path)
    package, *rest = path.parts or ("",)
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        if rest and Path(folder, *rest).is_file():
            return str(Path(folder, *rest))
    raise UserError(
        f"the font '{font}' is no file, and none of an installed package: give the path of a font that has the text's "
        "characters, or pip install -e '.[watermark]' for mplfonts/fonts/NotoSerifCJKsc-Regular.otf"
    )


def _check_characters(path: str, font: str, text: str) -> None:
    """Refuse what is no font, and a font that draws the box of a missing character."""
    try:
        loaded = ImageFont.truetype(path, 32)
    except (OSError, ValueError) as error:
        raise UserError(f"the font '{font}' cannot be read as one ({error}): give a TrueType file") from error
    missing = _drawn(loaded, "\uffff")
    for character in text:
        if not character.isspace() and _drawn(loaded, character) in (missing, b""):
            raise UserError(
                f"the font '{font}' has no '{character}' of the text: give one that has, such as one for Chinese, or "
                "another text"
            )


def _drawn(font: ImageFont.FreeTypeFont, character: str) -> bytes:
    """Return the pixels of a character, none where it has no ink."""
    mask = font.getmask(character)
    return bytes(mask) if any(mask.size) else b""
