"""Figures of new classes: maps of a filter before and after training, ROC curves, and the weight of negatives."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from editable.visualize.drawing import in_style, name_lines, save_figure, show_image

__all__ = ["plot_filter_maps", "plot_negative_weights", "plot_new_class_roc"]

LONGEST_NAME = 22


@in_style
def plot_filter_maps(
    path: str | Path,
    images: Tensor,
    targets: Tensor,
    before: Tensor,
    after: Tensor,
    titles: Sequence[str],
) -> None:
    """Draw images in columns: each above the map that its filter shall have, and those before and after training.

    Args:
        path: The PNG file.
        images: Values in [0, 1], shape [n, C, H, W] with C = 1 or 3.
        targets: The silhouettes, zero for negatives, in [0, 1], [n, h, w].
        before: Maps of the untrained filter after the sigmoid, [n, h, w].
        after: Maps of the trained filter after the sigmoid, [n, h, w].
        titles: What stands above each column, n.
    """
    rows = {"image": images, "target": targets, "before": before, "after": after}
    figure = Figure(figsize=(0.9 + 1.25 * len(images), 5.4), layout="constrained")
    grid = figure.subplots(len(rows), len(images), squeeze=False)
    drawn = None
    for axes_row, (name, row) in zip(grid, rows.items(), strict=True):
        for axes, picture in zip(axes_row, row.cpu(), strict=True):
            axes.set_xticks([])
            axes.set_yticks([])
            if name == "image":
                show_image(axes, picture)
            else:
                drawn = axes.imshow(picture.numpy(), cmap="viridis", vmin=0, vmax=1)
        axes_row[0].set_ylabel(name)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(name_lines(title, LONGEST_NAME), fontsize=8)
    if drawn is not None:
        figure.colorbar(drawn, ax=grid[1:].flatten().tolist(), fraction=0.02, label="σ(W * x)")
    save_figure(figure, path)


@in_style
def plot_new_class_roc(path: str | Path, curves: Mapping[str, Sequence[tuple[Tensor, Tensor, float]]]) -> None:
    """Draw ROC curves of several methods, each from one or more draws of the examples.

    Args:
        path: The PNG file.
        curves: By the method's name, for each draw: false positive rate [T], true positive rate [T], and the area.
    """
    figure = Figure(figsize=(5.6, 5.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle="--")
    for index, (name, draws) in enumerate(curves.items()):
        mean = sum(area for _, _, area in draws) / len(draws)
        for number, (false_positives, true_positives, _) in enumerate(draws):
            axes.plot(
                false_positives.numpy(),
                true_positives.numpy(),
                color=f"C{index}",
                linewidth=1.6 if len(draws) == 1 else 0.9,
                label=None if number else f"{name}: AUC {mean:.3f}",
            )
    axes.set_xlabel("false positive rate, every old class counting the same")
    axes.set_ylabel("true positive rate")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    save_figure(figure, path)


@in_style
def plot_negative_weights(
    path: str | Path,
    negative_weights: Sequence[float],
    areas: Sequence[Sequence[float]],
    positive_activations: Sequence[Sequence[float | None]],
    negative_activations: Sequence[Sequence[float | None]],
    baselines: Mapping[str, float] | None = None,
) -> None:
    """Draw what the weight λ of negatives does, as the mean and the range over draws of the examples.

    Args:
        path: The PNG file.
        negative_weights: In ascending order, R of them.
        areas: Under the ROC curve, at each weight for each draw.
        positive_activations: Mean of σ(W * x) in the silhouettes of positives, at each weight for each draw.
        negative_activations: Mean of σ(W * x) on negatives, at each weight for each draw; NaN where there are none.
        baselines: Areas of other methods by name, to be drawn as lines.
    """
    figure = Figure(figsize=(6.4, 6), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 2])
    ticks = range(len(negative_weights))
    shown = (
        (upper, areas, "C0", "filter"),
        (lower, positive_activations, "C2", "on positives"),
        (lower, negative_activations, "C3", "on negatives"),
    )
    for axes, values, color, name in shown:
        table = np.array(values, dtype=float)
        mean = table.mean(axis=1)
        spread = np.stack([mean - table.min(axis=1), table.max(axis=1) - mean])
        axes.errorbar(ticks, mean, spread, marker="o", color=color, capsize=3, label=name)
    for color, (name, area) in zip(cycle(("C1", "C4", "C5", "C6", "C7")), (baselines or {}).items(), strict=False):
        upper.axhline(area, color=color, linestyle="--", linewidth=1, label=name)
    upper.set_ylabel("AUC")
    lower.set_ylabel("mean activation in training")
    lower.set_ylim(-0.04, 1.04)
    lower.set_xlabel("weight λ of each negative")
    lower.set_xticks(ticks, [f"{weight:g}" for weight in negative_weights])
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    save_figure(figure, path)
