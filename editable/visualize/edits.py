"""Figures of edits: which were asked for, what they cost, and how many steps they took."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from editable.visualize.drawing import image_grid, in_style, label_axes, name_lines, save_figure, show_image

__all__ = ["plot_drawdown", "plot_edited_images", "plot_success"]

LONGEST_NAME = 22


@in_style
def plot_edited_images(
    path: str | Path,
    images: Tensor,
    old_labels: Tensor,
    new_labels: Tensor,
    classes: Sequence[str] | None = None,
    columns: int = 8,
) -> None:
    """Draw images with the network's label and the label asked for; green where the two agree already.

    Args:
        path: The PNG file.
        images: Values in [0, 1], shape [n, C, H, W] with C = 1 or 3.
        old_labels: Labels before the edit, int64, at least n.
        new_labels: Labels asked for, int64, at least n.
        classes: Class names by label; by default the labels themselves.
        columns: Number of images in a row.
    """
    figure, grid = image_grid(len(images), columns, 1.45, 1.75)
    for axes, image, old, new in zip(grid.flat, images, old_labels.tolist(), new_labels.tolist(), strict=False):
        show_image(axes, image)
        names = [str(label) if classes is None else classes[label] for label in (old, new)]
        axes.set_title(
            " → ".join(name_lines(name, LONGEST_NAME) for name in names),
            fontsize=8,
            color="C2" if old == new else "black",
        )
    save_figure(figure, path)


@in_style
def plot_drawdown(path: str | Path, drawdown: Mapping[str, Tensor]) -> None:
    """Draw the distribution of drawdown over edits, one step curve for each network, with its mean.

    Args:
        path: The PNG file.
        drawdown: By the network's name, the change of error rate by each edit as a fraction, shape [E].
    """
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    percent = {name: 100 * values.double().numpy() for name, values in drawdown.items()}
    everything = np.concatenate(list(percent.values()))
    bins = np.linspace(min(everything.min(), 0.0), max(everything.max(), 0.1), 41)
    for index, (name, values) in enumerate(percent.items()):
        color = f"C{index}"
        axes.hist(values, bins=list(bins), alpha=0.5, color=color, label=f"{name}: mean {values.mean():.2f} points")
        axes.axvline(values.mean(), color=color, linewidth=1.5)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    label_axes(axes, "drawdown of an edit, points of error rate", "number of edits")
    save_figure(figure, path)


@in_style
def plot_success(path: str | Path, outcomes: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Draw the share of edits that have succeeded within a number of steps, one curve for each network.

    Args:
        path: The PNG file.
        outcomes: By the network's name, success (bool [E]) and number of steps (int64 [E]).
    """
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    most = max(1, max(int(num_steps.max()) for _, num_steps in outcomes.values()))
    for name, (success, num_steps) in outcomes.items():
        share = [100 * (success & (num_steps <= step)).double().mean().item() for step in range(most + 1)]
        axes.plot(range(most + 1), share, marker="o", label=f"{name}: {share[-1]:.1f} % in the end")
    axes.set_xticks(range(most + 1))
    axes.set_ylim(0, 104)
    label_axes(axes, "number of steps", "edits that have succeeded, %")
    save_figure(figure, path)
