"""Figure of the four tests: ROC curves before and after an edit."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from editable.metrics import TargetCurve
from editable.visualize.drawing import in_style, save_figure

__all__ = ["RocPanel", "plot_roc_before_and_after"]

COLUMNS = 2


class RocPanel(NamedTuple):
    """Two curves that are drawn into one panel, and what stands above it."""

    title: str
    before: TargetCurve
    after: TargetCurve


@in_style
def plot_roc_before_and_after(path: str | Path, panels: Sequence[RocPanel]) -> None:
    """Draw ROC curves before and after an edit, a panel for each set of images.

    Args:
        path: The PNG file.
        panels: At least one.
    """
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(3.6 * COLUMNS, 3.6 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(grid.flat, panels, strict=False):
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle="--")
        for name, curve, style in (("before", panel.before, "--"), ("after", panel.after, "-")):
            false_positives, true_positives = curve.false_positive_rate.numpy(), curve.true_positive_rate.numpy()
            axes.plot(false_positives, true_positives, style, label=f"{name}: AUC {curve.auc:.3f}")
        axes.set_title(panel.title, fontsize=9)
        axes.set_aspect("equal")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize=8)
    for axes in grid[:, 0]:
        axes.set_ylabel("true positive rate")
    for axes in grid.flat[max(0, len(panels) - COLUMNS) : len(panels)]:  # the lowest of each column
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("false positive rate")
    save_figure(figure, path)
