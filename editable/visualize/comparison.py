"""The figure that compares evaluated networks: what their edits cost, and how good they are unedited."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure

from editable.visualize.drawing import name_lines, save_figure

__all__ = ["plot_comparison"]

LONGEST_NAME = 28


def plot_comparison(
    path: str | Path,
    names: Sequence[str],
    test_errors: Sequence[float],
    drawdowns: Sequence[float],
    half_widths: Sequence[float],
    generalities: Sequence[float] | None = None,
) -> None:
    """Draw a bar of drawdown with its interval for each network, and drawdown against what else an edit has to keep.

    That is the test error of the unedited network and, where given, the generality of edits, in the bars' colours.

    Args:
        path: The PNG file.
        names: Of the networks, n.
        test_errors: Error rates of the unedited networks, fractions, n.
        drawdowns: Mean drawdowns, fractions, n.
        half_widths: Of their 95 % intervals, fractions, n.
        generalities: Success rates on other views of the edited inputs, fractions, n.
    """
    costs, spreads = ([100 * value for value in values] for values in (drawdowns, half_widths))
    others = {"test error of the unedited network, %": test_errors}
    if generalities is not None:
        others["generality of edits, %"] = generalities
    positions = range(len(names))
    few = len(names) <= colormaps["tab10"].N
    colors = [colormaps["tab10"](place) if few else colormaps["turbo"](place / (len(names) - 1)) for place in positions]
    size = (5 + 5 * len(others), 1.4 + max(2.6, 0.36 * len(names)))
    figure = Figure(figsize=size, layout="constrained")
    bars, *scatters = figure.subplots(1, 1 + len(others), sharex=True)
    bars.barh(positions, costs, xerr=spreads, color=colors, alpha=0.8, capsize=3)
    bars.set_yticks(positions, [name_lines(name, LONGEST_NAME, 2) for name in names])
    bars.invert_yaxis()
    for position, cost, spread in zip(positions, costs, spreads, strict=True):
        end = max(cost, 0.0) + (spread if spread == spread else 0.0)
        bars.annotate(f"{cost:.2f}", (end, position), (4, 0), textcoords="offset points", va="center", fontsize=8)
    bars.margins(x=0.14)
    for axes, (label, fractions) in zip(scatters, others.items(), strict=True):
        for cost, fraction, spread, color in zip(costs, fractions, spreads, colors, strict=True):
            axes.errorbar(cost, 100 * fraction, xerr=spread, color=color, marker="o", capsize=3)
        axes.set_title("colours as on the left", fontsize=8)
        axes.margins(y=0.25)
        axes.set_ylabel(label)
    for axes in (bars, *scatters):
        axes.set_xlabel("drawdown, points of error rate")
        axes.axvline(0, color="black", linewidth=0.8)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    save_figure(figure, path)
