"""The figure of a stream of corrections: what holds of them, and what they cost, over their number."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from editable.visualize.drawing import in_style, label_axes, save_figure

__all__ = ["plot_stream"]


@in_style
def plot_stream(
    path: str | Path,
    num_edits: Sequence[int],
    held: Mapping[str, Sequence[float]],
    cost: Mapping[str, Sequence[float]],
) -> None:
    """Draw what holds above, and what it costs below.

    Args:
        path: The PNG file.
        num_edits: Numbers of corrections, in ascending order, P of them.
        held: Shares of what holds by name, each P fractions; NaN is left out.
        cost: Shares of the judged images, or changes of such, by name, each P fractions.
    """
    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True)
    for axes, curves in ((upper, held), (lower, cost)):
        for (name, shares), marker in zip(curves.items(), "osD^v", strict=False):
            values = 100 * np.array(shares, dtype=float)
            if not np.isnan(values).all():
                axes.plot(num_edits, values, marker=marker, markersize=4, linewidth=1.5, label=name)
    lower.axhline(0, color="0.4", linestyle="--")
    upper.set_xscale("log")
    upper.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    upper.set_ylim(-4, 104)
    label_axes(upper, "", "that have their label, %")
    label_axes(lower, "corrections", "judged images, points")
    save_figure(figure, path)
