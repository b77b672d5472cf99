"""Contact sheets: images, where a concept was in them, and what they look like without it."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from editable.visualize.drawing import in_style, name_lines, save_figure, show_image

__all__ = ["plot_contact_sheet"]

COLUMNS = 3
HEADINGS = ("original", "mask", "manipulated")


@in_style
def plot_contact_sheet(
    path: str | Path, originals: Tensor, manipulated: Tensor, masks: Tensor, names: Sequence[str]
) -> None:
    """Draw, for each image, the original, the original with all but the mask darkened, and the manipulated image.

    Args:
        path: The PNG file.
        originals: In [0, 1], [n, C, H, W].
        manipulated: In [0, 1], [n, C, H, W].
        masks: In [0, 1], [n, H, W].
        names: Of the images, n.
    """
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    width = len(HEADINGS) * columns
    figure = Figure(figsize=(1.5 * width, 1.7 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, width, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for index, name in enumerate(names):
        row, start = index // columns, len(HEADINGS) * (index % columns)
        darkened = originals[index] * (0.2 + 0.8 * masks[index])
        for axes, image in zip(grid[row, start:], (originals[index], darkened, manipulated[index]), strict=False):
            show_image(axes, image)
        grid[row, start + 1].set_title(name_lines(name, 34), fontsize=7)
    for column in range(width):
        grid[0, column].text(
            0.5, 1.14, HEADINGS[column % len(HEADINGS)], ha="center", fontsize=8, transform=grid[0, column].transAxes
        )
    save_figure(figure, path)
