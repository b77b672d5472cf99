"""What figures share: one style, an image in its axes, a grid of axes, labels of axes, and the finished file."""

import re
import warnings
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from unicodedata import category

import numpy as np
from cycler import cycler
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, ScalarFormatter
from torch import Tensor

from editable.atomic import write_atomically
from editable.tables import visible_text

__all__ = ["COLOURS", "image_grid", "in_style", "label_axes", "name_lines", "save_figure", "show_image"]

P = ParamSpec("P")
R = TypeVar("R")

FONT = "DejaVu Sans"  # matplotlib's own
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
"""Those of Okabe and Ito (Color Universal Design, 2008), which nobody's eyes confuse: C0 to C7 of a figure in style.

C0 is what one curve has; C1 stands for worse, C2 for better.
"""
DPI = 150
"""Pixels of a file to an inch of a figure."""
STYLE: dict[Any, Any] = {
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "white",  # of the file, too: it is read on a dark page as on a light one
    "font.family": FONT,
    "legend.framealpha": 0.9,
    "savefig.facecolor": "white",
}


def in_style(plot: Callable[P, R]) -> Callable[P, R]:
    """Make a function draw in the one style of all figures; settings of matplotlib's stay as they are for others."""

    @wraps(plot)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with rc_context(STYLE):
            return plot(*args, **kwargs)

    return drawn


def image_grid(count: int, columns: int, width: float, height: float, margin: float = 0.0) -> tuple[Figure, np.ndarray]:
    """Return a figure for some images, with at most so many in a row, and its axes, which are not drawn.

    Args:
        count: Number of images.
        columns: Largest number of images in a row.
        width: Of an image with what is beside it, in inches.
        height: Of an image with what is above it, in inches.
        margin: Further width of the figure, in inches.
    """
    columns = min(columns, max(count, 1))
    rows = max(-(-count // columns), 1)
    figure = Figure(figsize=(width * columns + margin, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    return figure, grid


def show_image(axes: Axes, image: Tensor) -> None:
    """Draw an image [C, H, W] in [0, 1], C = 1 or 3; values outside are clipped."""
    pixels = np.asarray(image.permute(1, 2, 0).clamp(0, 1))
    axes.imshow(pixels if pixels.shape[-1] == 3 else pixels[..., 0], cmap="gray", vmin=0, vmax=1)


def label_axes(axes: Axes, horizontal: str, vertical: str) -> None:
    """Name both axes, and draw a grid and, where curves have names, a legend."""
    axes.set_xlabel(horizontal)
    axes.set_ylabel(vertical)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()


def name_lines(name: str, width: int, most: int = 3) -> str:
    """Return a name as it is drawn: whole, on several lines where it is long, its middle left out where it is longer.

    Args:
        name: Of a class, an image or a run.
        width: Most characters in a line.
        most: Most lines.
    """
    room, name = width * most, visible_text(name)
    if len(name) > room:
        name = f"{name[: room // 2 - 1]}…{name[len(name) - room // 2 + 1 :]}"
    lines = [part for line in name.split("\n") for part in _cut(line, width)]
    if len(lines) > 2 * most:  # its own breaks are more than there is room for
        lines = _cut(name.replace("\n", " "), width)
    return "\n".join(lines)


def _cut(line: str, width: int) -> list[str]:
    """Cut behind spaces and slashes; in their midst only what is longer than a line."""
    lines = [""]
    for piece in re.findall(r"[^ /]*[ /]|[^ /]+", line):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        whole = lines.pop() + piece
        lines += [whole[start : start + width] for start in range(0, len(whole), width)]
    return lines


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as a PNG file, with names as they are: dollars in them are no mathematics.

    Characters that matplotlib's own font lacks are drawn in another font of the machine; where there is none, a warning
    says so, once, and they are drawn as boxes.
    """
    texts = list(_names(figure))
    drawn = {some for text in texts for some in text.get_text() if some != "\n"}
    missing = drawn - _drawn_by(findfont(FONT), drawn)
    fonts = _fonts_with(missing) if missing else {}
    for text in texts:
        text.set_parse_math(False)
        if not missing.isdisjoint(text.get_text()):
            text.set_fontfamily([FONT, *fonts])
    nowhere = sorted(some for some in missing.difference(*fonts.values()) if category(some)[0] not in "CM")
    if nowhere:
        warnings.warn(
            f"no font of this machine has {''.join(nowhere[:8])}: figures show boxes in their place, tables have them",
            stacklevel=1,  # once for all figures
        )
    with write_atomically(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(temporary, format="png", dpi=DPI)


def _names(figure: Figure) -> Iterable[Text]:
    """Yield the texts of a figure, but for numbers beside axes, which may be powers of ten."""
    numbers: set[Text] = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(axis.get_major_formatter(), LogFormatter | ScalarFormatter):
                numbers |= {*axis.get_ticklabels(which="both"), axis.get_offset_text()}
    return (text for text in figure.findobj(Text) if text not in numbers)


def _drawn_by(font: str, characters: set[str]) -> set[str]:
    """Return those characters that a font file can draw; none where it cannot be read or holds bitmaps."""
    try:
        opened = get_font(font)
    except (OSError, RuntimeError):
        return set()
    return {some for some in characters if opened.scalable and opened.get_char_index(ord(some))}


def _fonts_with(characters: set[str]) -> dict[str, set[str]]:
    """Return fonts of the machine, by family, which draw some of the characters, until all are drawn."""
    found: dict[str, set[str]] = {}
    for entry in fontManager.ttflist:
        wanted = characters.difference(*found.values())
        if not wanted:
            break
        if not entry.name.startswith("Last Resort"):  # it has a box for everything
            drawn = _drawn_by(entry.fname, wanted)
            found |= {entry.name: drawn} if drawn else {}
    return found
