"""The figure of an edit of images: what a network says of each before and after."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from editable.visualize.drawing import in_style, name_lines, save_figure, show_image

__all__ = ["plot_image_edit"]

MOST_CLASSES = 5
LONGEST_NAME = 28


@in_style
def plot_image_edit(
    path: str | Path,
    images: Tensor,
    names: Sequence[str],
    labels: Tensor,
    before: Tensor,
    after: Tensor,
    classes: Sequence[str],
    moments: tuple[str, str] = ("before", "after"),
) -> None:
    """Draw each image beside the probabilities of its likeliest classes before and after; the one asked for is bold.

    Args:
        path: The PNG file.
        images: In [0, 1], [n, C, H, W].
        names: Of the images, at least n.
        labels: Asked for, int64, at least n.
        before: Probabilities of the classes, [≥ n, classes].
        after: The same after the edit.
        classes: Class names by label.
        moments: What the legend calls the two.
    """
    figure = Figure(figsize=(6.4, 2.1 * len(images) + 0.5), layout="constrained")
    grid = figure.subplots(len(images), 2, squeeze=False, width_ratios=[1, 2])
    rows = zip(grid, images, names, labels.tolist(), before, after, strict=False)
    for (left, right), image, name, label, *values in rows:
        left.set_axis_off()
        left.set_title(name_lines(name, LONGEST_NAME), fontsize=8)
        show_image(left, image)
        likeliest = np.maximum(*(np.asarray(some) for some in values)).argsort()[::-1]
        shown = [label, *(other for other in likeliest.tolist() if other != label)][:MOST_CLASSES]
        positions = np.arange(len(shown))
        for offset, some, when, color in zip((-0.2, 0.2), values, moments, ("0.65", "C0"), strict=True):
            right.barh(positions + offset, 100 * np.asarray(some)[shown], 0.4, color=color, label=when)
        right.set_yticks(positions, [name_lines(classes[index], LONGEST_NAME) for index in shown], fontsize=8)
        right.get_yticklabels()[0].set_fontweight("bold")
        right.invert_yaxis()
        right.set_xlim(0, 100)
        right.grid(axis="x", alpha=0.3)
        right.set_axisbelow(True)
    grid[0, 1].legend(fontsize=8, loc="lower right")
    grid[-1, 1].set_xlabel("probability, %")
    save_figure(figure, path)
