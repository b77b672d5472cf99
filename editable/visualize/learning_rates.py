"""The figure of a search for a learning rate: what edits cost at each, and how many of them succeed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, StrMethodFormatter

from editable.visualize.drawing import in_style, label_axes, save_figure

__all__ = ["plot_learning_rates"]


@in_style
def plot_learning_rates(
    path: str | Path,
    learning_rates: Sequence[float],
    drawdown: Sequence[float],
    half_width: Sequence[float | None],
    success_rate: Sequence[float],
    min_success: float,
    chosen: float | None = None,
) -> None:
    """Draw drawdown and success rate over learning rates; rates with too few successes are hollow.

    Args:
        path: The PNG file.
        learning_rates: In ascending order, R of them.
        drawdown: Mean drawdown at each, as a fraction.
        half_width: Of the 95 % interval around each; none where it is exact.
        success_rate: At each, as a fraction.
        min_success: Least success rate that a rate needs to be chosen.
        chosen: The learning rate that was chosen, if any.
    """
    figure = Figure(figsize=(6.4, 6), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 2])
    lower.set_xscale("log")
    lower.set_xlim(learning_rates[0] / 1.5, learning_rates[-1] * 1.5)
    percent = [100 * np.array(values, dtype=float) for values in (drawdown, success_rate)]
    errors = 100 * np.array([width or 0.0 for width in half_width])
    enough = np.array(success_rate) >= min_success
    for axes, values in zip((upper, lower), percent, strict=True):
        axes.plot(learning_rates, values, color="C0", linewidth=1, alpha=0.6)
        axes.scatter(learning_rates, values, zorder=3, edgecolors="C0", c=np.where(enough, "C0", "white"))
        if chosen is not None:
            axes.axvline(chosen, color="C1", linewidth=1.5, label=f"chosen: {chosen:g}")
    upper.errorbar(learning_rates, percent[0], errors, fmt="none", ecolor="C0", capsize=3)
    lower.axhline(100 * min_success, color="0.4", linestyle="--", label=f"least to be chosen: {100 * min_success:g} %")
    upper.set_yscale("symlog", linthresh=1)  # points: small ones matter, and a rate too large ruins the network
    upper.yaxis.set_major_locator(FixedLocator([-10, -5, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100]))
    upper.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    lower.set_ylim(-4, 104)
    label_axes(upper, "", "drawdown, points of error rate")
    label_axes(lower, "learning rate", "edits that succeed, %")
    save_figure(figure, path)
