"""Figures of rewrites in the inverse direction: whether the rule survives, and what it costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from editable.visualize.drawing import in_style, save_figure

__all__ = ["plot_survival", "plot_trade_off"]

LEAST = 1e-16  # residuals below it are rounding, and drawn there
MARKERS = "osD^v<>PX*"


@in_style
def plot_survival(
    path: str | Path,
    residuals: Mapping[str, float],
    accuracies: Mapping[str, Mapping[str, float]],
    unedited: Mapping[str, float],
) -> None:
    """Draw accuracy against how far the layer is from the rule, a point for each method.

    Args:
        path: The PNG file.
        residuals: Relative residual of the constraint after the rewrite, by method; drawn on a logarithmic scale.
        accuracies: By set of images, a panel each: by method, a fraction.
        unedited: By set, the accuracy of the unedited network.
    """
    figure = Figure(figsize=(1.4 + 3.6 * len(accuracies), 5.0), layout="constrained")
    panels = figure.subplots(1, len(accuracies), squeeze=False)[0]
    for axes, (name, by_method) in zip(panels, accuracies.items(), strict=True):
        for index, (method, accuracy) in enumerate(by_method.items()):
            residual = max(residuals[method], LEAST)
            color, marker = _style(index)
            axes.scatter(residual, 100 * accuracy, label=method, color=color, marker=marker)
        axes.axhline(100 * unedited[name], color="0.4", linestyle="--", label="unedited")
        axes.set_xscale("log")
        axes.set_xlabel("residual of the constraint after the rewrite")
        _finish(axes, f"accuracy on {name}, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    save_figure(figure, path)


@in_style
def plot_trade_off(
    path: str | Path,
    gains: Mapping[str, Sequence[float]],
    drops: Mapping[str, Sequence[float]],
    gain_label: str,
    drop_label: str,
) -> None:
    """Draw what rewrites of several strengths gain against what they cost, a line for each method.

    Args:
        path: The PNG file.
        gains: Gain in accuracy on what the rule is about, by method, a fraction for each strength, in ascending order.
        drops: Drop in accuracy on other images, of the same rewrites.
        gain_label: What gains are of.
        drop_label: What drops are of.
    """
    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    axes = figure.subplots()
    for index, (method, values) in enumerate(gains.items()):
        color, marker = _style(index)
        costs, points = [100 * drop for drop in drops[method]], [100 * gain for gain in values]
        axes.plot([0, *costs], [0, *points], color=color, linewidth=1, alpha=0.6)
        axes.scatter(costs, points, label=method, color=color, marker=marker)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlabel(f"drop in accuracy on {drop_label}, points")
    _finish(axes, f"gain in accuracy on {gain_label}, points")
    axes.legend(fontsize=8)
    save_figure(figure, path)


def _style(index: int) -> tuple[str, str]:
    """Return the colour and the marker of a method."""
    return f"C{index}", MARKERS[index % len(MARKERS)]


def _finish(axes: Axes, vertical: str) -> None:
    axes.set_ylabel(vertical)
    axes.grid(alpha=0.3)
