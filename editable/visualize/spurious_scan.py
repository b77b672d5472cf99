"""Figure of a scan for spurious correlations: how classes suffer from the replacement of a concept."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from editable.visualize.drawing import in_style, name_lines, save_figure

__all__ = ["SHOWN", "Bars", "plot_scan"]

LONGEST_NAME = 28
SHOWN = {
    "error": ("change in error, points", 100),
    "top_probability": ("change in top probability", 1),
    "taken": ("change in others' images\ntaken, points", 100),
}
"""Measures of a class that a scan shows: the panel's title, and what its values are multiplied by."""


class Bars(NamedTuple):
    """A panel of bars, one for each class and network.

    Attributes:
        title: What is drawn.
        values: By the network's name, one for each class; NaN draws none.
        half_widths: Of their intervals, likewise; NaN draws none.
    """

    title: str
    values: Mapping[str, Sequence[float]]
    half_widths: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, measure: str, changes: Mapping[str, Sequence[tuple[float, float]]]) -> "Bars":
        """Return the panel of one of the measures of :data:`SHOWN`.

        Args:
            measure: Its name.
            changes: By the network's name, change and half width for each class, as fractions.
        """
        title, scale = SHOWN[measure]
        values = {name: [scale * change for change, _ in row] for name, row in changes.items()}
        half_widths = {name: [scale * half_width for _, half_width in row] for name, row in changes.items()}
        return cls(title, values, half_widths)


@in_style
def plot_scan(path: str | Path, classes: Sequence[str], panels: Sequence[Bars]) -> None:
    """Draw panels of horizontal bars side by side, a row for each class, the first one at the top.

    Args:
        path: The PNG file.
        classes: Names of the classes in the order of the rows.
        panels: At least one.
    """
    figure = Figure(figsize=(1.2 + 2.9 * len(panels), 1.3 + 0.34 * len(classes)), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    rows = np.arange(len(classes))
    for axes, panel in zip(grid, panels, strict=True):
        height = 0.8 / len(panel.values)
        for position, (name, values) in enumerate(panel.values.items()):
            middle = rows + (position + 0.5) * height - 0.4
            widths = np.nan_to_num(np.array(panel.half_widths[name], dtype=float))
            style = {"ecolor": "0.35", "elinewidth": 0.8}
            axes.barh(middle, values, height, xerr=widths, error_kw=style, color=f"C{position}", label=name)
        axes.axvline(0, color="0.3", linewidth=0.8)
        axes.set_title(panel.title, fontsize=9)
        axes.grid(alpha=0.3, axis="x")
        axes.tick_params(labelsize=8)
    grid[0].set_yticks(rows, [name_lines(name, LONGEST_NAME, 2) for name in classes])
    grid[0].invert_yaxis()
    if len(panels[0].values) > 1:
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    save_figure(figure, path)
