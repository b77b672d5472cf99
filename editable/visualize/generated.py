"""Figures of generators: samples, what a rule asks for, and images before and after a rewrite with their context."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from editable.visualize.drawing import image_grid, in_style, save_figure, show_image

__all__ = ["plot_generated", "plot_outlined", "plot_samples"]


@in_style
def plot_samples(path: str | Path, images: Tensor, columns: int = 16) -> None:
    """Draw images side by side.

    Args:
        path: The PNG file.
        images: In [0, 1], [n, C, H, W] with C = 1 or 3.
        columns: Number of images in a row.
    """
    figure, grid = image_grid(len(images), columns, 0.62, 0.62)
    for axes, image in zip(grid.flat, images, strict=False):
        show_image(axes, image)
    save_figure(figure, path)


@in_style
def plot_outlined(path: str | Path, images: Tensor, masks: Tensor, titles: Sequence[str], columns: int = 8) -> None:
    """Draw images, each with the outline of its mask, where it covers half a pixel or more.

    Args:
        path: The PNG file.
        images: In [0, 1], [n, C, H, W] with C = 1 or 3.
        masks: In [0, 1], [n, H, W]; an empty one is not outlined.
        titles: One for each image.
        columns: Number of images in a row.
    """
    figure, grid = image_grid(len(images), columns, 1.5, 1.75)
    for axes, image, mask, title in zip(grid.flat, images, masks, titles, strict=False):
        show_image(axes, image)
        _outline(axes, mask)
        axes.set_title(title, fontsize=8)
    save_figure(figure, path)


@in_style
def plot_generated(
    path: str | Path, before: Tensor, after: Tensor, heat_maps: Tensor, matched: Tensor, titles: Sequence[str]
) -> None:
    """Draw generated images before and after a rewrite, what has changed, and where the context matches.

    One column for each image, of four pictures: before, after, after − before (red: brighter, blue: darker), and the
    response of the layer's keys to the rule's directions. Where the context matches is outlined.

    Args:
        path: The PNG file.
        before: In [0, 1], [n, C, H, W] with C = 1 or 3.
        after: Of the same latent vectors.
        heat_maps: [n, H, W], all drawn on one scale.
        matched: Where the context matches, 0 or 1, [n, H, W].
        titles: One for each image.
    """
    number = len(before)
    labels = ("before", "after", "change", "context")
    figure = Figure(figsize=(1.1 * max(number, 4) + 0.9, 1.1 * len(labels) + 0.5), layout="constrained")
    grid = figure.subplots(len(labels), number, squeeze=False)
    high = max(float(heat_maps.abs().max()), 1e-12)
    for column, title in enumerate(titles):
        for axes in grid[:, column]:
            axes.set_xticks([])
            axes.set_yticks([])
        show_image(grid[0, column], before[column])
        show_image(grid[1, column], after[column])
        change = np.asarray((after[column] - before[column]).mean(dim=0))
        grid[2, column].imshow(change, cmap="RdBu_r", vmin=-1, vmax=1)
        drawn = grid[3, column].imshow(np.asarray(heat_maps[column]), cmap="PuOr_r", vmin=-high, vmax=high)
        for axes in grid[2:, column]:
            _outline(axes, matched[column])
        grid[0, column].set_title(title, fontsize=8)
    for axes, label in zip(grid[:, 0], labels, strict=True):
        axes.set_ylabel(label, fontsize=9)
    figure.colorbar(drawn, ax=grid[3, -1], label="⟨D, key⟩")
    save_figure(figure, path)


def _outline(axes: Axes, mask: Tensor) -> None:
    """Draw the edges between pixels inside and outside."""
    inside = np.pad(np.asarray(mask) >= 0.5, 1)
    rows, columns = np.nonzero(inside[1:-1, :-1] != inside[1:-1, 1:])  # edges that are upright
    axes.vlines(columns - 0.5, rows - 0.5, rows + 0.5, colors="C2", linewidth=1.5)
    rows, columns = np.nonzero(inside[:-1, 1:-1] != inside[1:, 1:-1])
    axes.hlines(rows - 0.5, columns - 0.5, columns + 0.5, colors="C2", linewidth=1.5)
