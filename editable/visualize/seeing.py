"""Figures of values traced back: rows of images, rows of maps with a concept's outline, and curves over a descent."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from editable.visualize.drawing import in_style, name_lines, save_figure, show_image

__all__ = ["StageCurves", "plot_image_rows", "plot_map_rows", "plot_stages"]

COLOURS = {"original": "C3", "manipulated": "C2"}
LINES = {"before": "--", "after": "-"}
COLOUR_MAPS = {False: ("viridis", 1.0), True: ("inferno", 0.6)}  # alone, and over an image
LONGEST_NAME = 18
EXTENT = (0, 1, 1, 0)


class StageCurves(NamedTuple):
    """What is drawn of one stage; all curves by ``before`` and ``after`` the rewrite.

    Attributes:
        title: Of the stage.
        measure: What is measured besides the loss, as the axis is called.
        losses: After 0, 1, … updates, [num_steps + 1, n].
        recorded: After how many updates the rest was measured, [T].
        measured: Against the ``original`` and the ``manipulated``, [T, n] each.
    """

    title: str
    measure: str
    losses: Mapping[str, Tensor]
    recorded: Tensor
    measured: Mapping[str, Mapping[str, Tensor]]


@in_style
def plot_image_rows(path: str | Path, rows: Mapping[str, Tensor], titles: Sequence[str]) -> None:
    """Draw images of the same exemplars in rows.

    Args:
        path: The PNG file.
        rows: By what stands beside them, images in [0, 1], [n, C, H, W] each.
        titles: What stands above each column, n.
    """
    figure, grid = _rows(len(rows), len(titles))
    for axes_row, (name, images) in zip(grid, rows.items(), strict=True):
        axes_row[0].set_ylabel(name, fontsize=8)
        for axes, image in zip(axes_row, images.cpu(), strict=True):
            show_image(axes, image)
    _head(grid, titles)
    save_figure(figure, path)


@in_style
def plot_map_rows(
    path: str | Path,
    rows: Mapping[str, Tensor],
    titles: Sequence[str],
    label: str,
    masks: Tensor | None = None,
    images: Mapping[str, Tensor] | None = None,
) -> None:
    """Draw maps of the same exemplars in rows, all on one scale, with the outline of a concept.

    Args:
        path: The PNG file.
        rows: By what stands beside them, [n, h, w] each.
        titles: What stands above each column, n.
        label: What the maps' values are.
        masks: Where the concept is, in [0, 1], [n, H, W] at any resolution.
        images: What the maps are laid over, by the same names, in [0, 1], [n, C, H, W] each; drawn in grey.
    """
    figure, grid = _rows(len(rows), len(titles), margin=0.9)
    # One object for all: a colour bar widens the scale of maps that are constant.
    scale = Normalize(
        min(float(maps.min()) for maps in rows.values()), max(float(maps.max()) for maps in rows.values())
    )
    drawn = None
    for axes_row, (name, maps) in zip(grid, rows.items(), strict=True):
        axes_row[0].set_ylabel(name, fontsize=8)
        for column, axes in enumerate(axes_row):
            if images is not None:
                grey = np.asarray(images[name][column].mean(dim=0).cpu())
                axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=EXTENT)
            picture, (colours, alpha) = np.asarray(maps[column].cpu()), COLOUR_MAPS[images is not None]
            drawn = axes.imshow(picture, cmap=colours, alpha=alpha, norm=scale, extent=EXTENT)
            if masks is not None:
                _outline(axes, masks[column])
    _head(grid, titles)
    if drawn is not None:
        figure.colorbar(drawn, ax=grid, label=label, shrink=0.9)
    save_figure(figure, path)


@in_style
def plot_stages(path: str | Path, stages: Sequence[StageCurves]) -> None:
    """Draw the curves of each stage in a row: the loss, and what is measured; means over items, and their range.

    Args:
        path: The PNG file.
        stages: From top to bottom.
    """
    figure = Figure(figsize=(9.6, 2.9 * len(stages)), layout="constrained")
    grid = figure.subplots(len(stages), 2, squeeze=False)
    for (left, right), stage in zip(grid, stages, strict=True):
        for when, losses in stage.losses.items():
            _curve(left, range(len(losses)), losses, "black" if when == "before" else "C1", LINES[when], when)
        left.set_yscale("log")
        left.set_ylabel("relative squared error")
        for when, by_name in stage.measured.items():
            for name, measured in by_name.items():
                label = f"{when}: to the {name}"
                _curve(right, stage.recorded.tolist(), measured, COLOURS[name], LINES[when], label)
        right.set_ylabel(stage.measure)
        for axes in (left, right):
            axes.set_title(stage.title, fontsize=10)
            axes.set_xlabel("updates")
            axes.grid(alpha=0.3)
            axes.legend(fontsize=7)
    save_figure(figure, path)


def _curve(axes: Axes, steps: Sequence[int], values: Tensor, colour: str, line: str, label: str) -> None:
    table = np.asarray(values.cpu(), dtype=float)
    axes.plot(steps, table.mean(axis=1), color=colour, linestyle=line, label=label)
    if table.shape[1] > 1:
        axes.fill_between(steps, table.min(axis=1), table.max(axis=1), color=colour, alpha=0.08, linewidth=0)


def _rows(count: int, columns: int, margin: float = 0.0) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(1.3 * max(columns, 2) + 0.6 + margin, 1.35 * count + 0.3), layout="constrained")
    grid = figure.subplots(count, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    return figure, grid


def _head(grid: np.ndarray, titles: Sequence[str]) -> None:
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(name_lines(title, LONGEST_NAME), fontsize=8)


def _outline(axes: Axes, mask: Tensor) -> None:
    """Draw where a mask passes one half, in coordinates from 0 to 1."""
    height, width = mask.shape
    # A border of zeros closes the outline of a mask that reaches the edge.
    padded = np.pad(np.asarray(mask.cpu(), dtype=float), 1)
    rows, columns = ((np.arange(length + 2) - 0.5) / length for length in (height, width))
    if padded.max() > 0.5:
        axes.contour(columns.clip(0, 1), rows.clip(0, 1), padded, levels=[0.5], colors="white", linewidths=0.9)
