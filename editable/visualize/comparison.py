"""Figures that compare: networks by what their edits cost and how good they are unedited; editors by harm."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure

from editable.visualize.drawing import COLOURS, in_style, name_lines, save_figure

__all__ = ["plot_board", "plot_comparison", "plot_trade"]

LONGEST_NAME = 28
PANELS_IN_A_ROW = 3
LINEAR = 0.25
"""Points of harm up to which the axis is linear; beyond, it is logarithmic."""
TICKS = (-10, -1, -LINEAR, 0, LINEAR, 1, 10)
TRADE_TICKS = (-0.1, 0, 0.1, LINEAR, 0.5, 1, 2, 5, 10, 20, 50)
MARKS = ("o", "^", "D", "*", "v", "P", "X")


@in_style
def plot_comparison(
    path: str | Path,
    names: Sequence[str],
    test_errors: Sequence[float] | None,
    drawdowns: Sequence[float],
    half_widths: Sequence[float],
    generalities: Sequence[float] | None = None,
) -> None:
    """Draw a bar of drawdown with its interval for each network, and drawdown against what else an edit has to keep.

    That is the test error of the unedited network and the generality of edits, as far as given, in the bars' colours.

    Args:
        path: The PNG file.
        names: Of the networks, n.
        test_errors: Error rates of the unedited networks, fractions, n; none where it is one network throughout.
        drawdowns: Mean drawdowns, fractions, n.
        half_widths: Of their 95 % intervals, fractions, n.
        generalities: Success rates on other views of the edited inputs, fractions, n.
    """
    costs, spreads = ([100 * value for value in values] for values in (drawdowns, half_widths))
    given = {"test error of the unedited network, %": test_errors, "generality of edits, %": generalities}
    others = {label: fractions for label, fractions in given.items() if fractions is not None}
    positions = range(len(names))
    few = len(names) <= len(COLOURS)
    colors = [COLOURS[place] if few else colormaps["viridis"](place / (len(names) - 1)) for place in positions]
    size = (5 + 5 * len(others), 1.4 + max(2.6, 0.36 * len(names)))
    figure = Figure(figsize=size, layout="constrained")
    bars, *scatters = figure.subplots(1, 1 + len(others), sharex=True, squeeze=False)[0]
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


@in_style
def plot_board(path: str | Path, panels: Mapping[str, Sequence[tuple[str, float, bool]]]) -> None:
    """Draw a panel for each network and protocol, in which each editor is a point at its harm.

    Args:
        path: The PNG file.
        panels: By title, editors from the top down: name, harm as a fraction, and whether its edits hold, which fills
            the point.
    """
    columns = min(PANELS_IN_A_ROW, len(panels))
    rows = -(-len(panels) // columns)
    most = max(map(len, panels.values()))
    harms = [100 * harm for editors in panels.values() for _, harm, _ in editors]
    figure = Figure(figsize=(5.2 * columns, rows * (1.3 + 0.27 * most)), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, editors) in zip(grid.flat, panels.items(), strict=False):
        for place, (_, harm, holds) in enumerate(editors):
            color = "C0" if holds else "0.5"
            axes.plot(100 * harm, place, marker="o", color=color, markerfacecolor=color if holds else "none")
        axes.set_yticks(range(len(editors)), [name_lines(name, 26, 2) for name, _, _ in editors], fontsize=8)
        axes.set_ylim(most - 0.5, -0.5)
        axes.set_xscale("symlog", linthresh=LINEAR, linscale=0.7)
        axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
        axes.set_xticks([], minor=True)
        axes.set_xlim(min(-LINEAR, 1.3 * min(harms)), max(1.0, 1.3 * max(harms)))
        axes.axvline(0, color="black", linewidth=0.8)
        axes.axvline(LINEAR, color="C1", linewidth=0.8, linestyle="--")
        axes.grid(alpha=0.3)
        axes.set_title(name_lines(title, 48, 3), fontsize=9)
        axes.set_xlabel("harm, points of error rate")
    save_figure(figure, path)


@in_style
def plot_trade(path: str | Path, points: Sequence[tuple[str, str, float, float, bool]]) -> None:
    """Draw what networks pay for edits that harm little: drawdown against test error, a point for each run.

    Args:
        path: The PNG file.
        points: Training, whose colour it is; editor, whose mark it is; test error of the unedited network and drawdown,
            fractions; and whether the edits hold, which fills the point.
    """
    trainings = list(dict.fromkeys(point[0] for point in points))
    editors = list(dict.fromkeys(point[1] for point in points))
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    axes = figure.subplots()
    for training, editor, error, drawdown, holds in points:
        color = f"C{trainings.index(training)}"
        mark = MARKS[editors.index(editor) % len(MARKS)]
        axes.plot(100 * error, 100 * drawdown, mark, color=color, markerfacecolor=color if holds else "none", alpha=0.8)
    for place, name in enumerate(trainings):
        axes.plot([], [], "s", color=f"C{place}", label=name_lines(name, LONGEST_NAME, 2))
    for place, name in enumerate(editors):
        axes.plot([], [], MARKS[place % len(MARKS)], color="black", label=name_lines(name, LONGEST_NAME, 2))
    axes.set_yscale("symlog", linthresh=LINEAR, linscale=0.7)
    axes.set_yticks(TRADE_TICKS, [f"{tick:g}" for tick in TRADE_TICKS])
    axes.set_yticks([], minor=True)
    lowest, highest = (some(100 * point[3] for point in points) for some in (min, max))
    axes.set_ylim(min(-LINEAR / 5, 1.3 * lowest), max(1.0, 1.3 * highest))
    axes.set_xlabel("test error of the unedited network, %")
    axes.set_ylabel("drawdown of an edit, points of error rate")
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    save_figure(figure, path)
