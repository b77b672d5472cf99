"""What figures share: an image in its axes, a grid of axes for many, labels of axes, and the finished file."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from editable.atomic import write_atomically

__all__ = ["image_grid", "label_axes", "save_figure", "show_image"]


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


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as a PNG file."""
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
