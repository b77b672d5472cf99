"""The figure of the board: what every editor costs, for each network and protocol."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from editable.visualize.drawing import name_lines, save_figure

__all__ = ["plot_board"]

COLUMNS = 3
LINEAR = 0.25
"""Points of harm up to which the axis is linear; beyond, it is logarithmic."""


def plot_board(path: str | Path, panels: Mapping[str, Sequence[tuple[str, float, bool]]]) -> None:
    """Draw a panel for each network and protocol, in which each editor is a point at its harm.

    Args:
        path: The PNG file.
        panels: By title, editors from the top down: name, harm as a fraction, and whether its edits hold, which fills
            the point.
    """
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    most = max(map(len, panels.values()))
    figure = Figure(figsize=(5.2 * columns, rows * (1.3 + 0.27 * most)), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, editors) in zip(grid.flat, panels.items(), strict=False):
        for place, (_, harm, holds) in enumerate(editors):
            color = "tab:blue" if holds else "tab:gray"
            axes.plot(100 * harm, place, marker="o", color=color, markerfacecolor=color if holds else "none")
        axes.set_yticks(range(len(editors)), [name_lines(name, 30, 1) for name, _, _ in editors], fontsize=8)
        axes.set_ylim(most - 0.5, -0.5)
        axes.set_xscale("symlog", linthresh=LINEAR, linscale=0.7)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.axvline(LINEAR, color="tab:red", linewidth=0.8, linestyle="--")
        axes.grid(alpha=0.3)
        axes.set_title(name_lines(title, 60, 2), fontsize=9)
        axes.set_xlabel("harm, points of error rate")
    save_figure(figure, path)
