"""Figures of rewrites: exemplars, where a rule is seen, candidates, layers, and what became of images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from editable.visualize.drawing import image_grid, in_style, name_lines, save_figure, show_image

__all__ = [
    "plot_candidates",
    "plot_changed_images",
    "plot_few_shots",
    "plot_heat_maps",
    "plot_layers",
    "plot_routes",
]

COLUMNS = 8
LOWEST_BAR = 100
LONGEST_NAME = 22


@in_style
def plot_heat_maps(path: str | Path, images: Tensor, heat_maps: Tensor, titles: Sequence[str]) -> None:
    """Draw images, each with the response of its keys to a rule's directions laid over it.

    Args:
        path: The PNG file.
        images: In [0, 1], [n, C, H, W].
        heat_maps: [n, H, W], all drawn on one scale.
        titles: One for each image.
    """
    figure, grid = image_grid(len(images), COLUMNS, 1.7, 1.95, margin=0.8)
    low, high = float(heat_maps.min()), float(heat_maps.max())
    drawn = None
    for axes, image, heat, title in zip(grid.flat, images, heat_maps, titles, strict=False):
        axes.imshow(np.asarray(image.mean(dim=0)), cmap="gray", vmin=0, vmax=1)
        drawn = axes.imshow(np.asarray(heat), cmap="inferno", alpha=0.6, vmin=low, vmax=high)
        axes.set_title(name_lines(title, LONGEST_NAME), fontsize=8)
    if drawn is not None:
        figure.colorbar(drawn, ax=grid, label="⟨D, key⟩", shrink=0.9)
    save_figure(figure, path)


@in_style
def plot_candidates(
    path: str | Path,
    drops: Sequence[float],
    corrected: Sequence[float],
    groups: Sequence[str],
    max_drop: float,
    chosen: int | None = None,
) -> None:
    """Draw what candidates correct against what they cost, on the images that choose among them.

    Args:
        path: The PNG file.
        drops: Drop in accuracy of each candidate, a fraction.
        corrected: Part of the target's errors that each corrects.
        groups: What each belongs to, such as its solver; a colour for each.
        max_drop: Largest drop allowed.
        chosen: Position of the one that was chosen.
    """
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()
    costs, gains = 100 * np.array(drops), 100 * np.array(corrected)
    for index, group in enumerate(dict.fromkeys(groups)):
        members = np.array([name == group for name in groups])
        axes.scatter(costs[members], gains[members], s=18, alpha=0.7, color=f"C{index}", label=group)
    if chosen is not None:
        axes.scatter(costs[chosen], gains[chosen], s=140, facecolors="none", edgecolors="black", label="chosen")
    axes.axvline(100 * max_drop, color="0.4", linestyle="--", label=f"largest drop allowed: {100 * max_drop:g} points")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xscale("symlog", linthresh=1)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(max(-60, min(gains.min(), 0) - 5), max(gains.max(), 0) + 5)
    axes.set_xlabel("drop in accuracy, points")
    axes.set_ylabel("errors corrected on the target, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save_figure(figure, path)


@in_style
def plot_layers(
    path: str | Path, layers: Sequence[str], corrected: Sequence[float], drops: Sequence[float], max_drop: float
) -> None:
    """Draw, for each layer, what its best candidate within the allowed drop corrects, and at what drop.

    Args:
        path: The PNG file.
        layers: In the order of the network, n.
        corrected: Part of the target's errors corrected by each layer's best candidate, n; 0 where there is none.
        drops: Drop in accuracy of that candidate, a fraction, n.
        max_drop: Largest drop allowed.
    """
    figure = Figure(figsize=(1.8 + 0.45 * max(len(layers), 6), 4.8), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 2])
    positions = range(len(layers))
    upper.bar(positions, 100 * np.array(corrected), color="C0")
    lower.bar(positions, 100 * np.array(drops), color="C1")
    lower.axhline(100 * max_drop, color="0.4", linestyle="--")
    lower.set_xticks(positions, layers, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    upper.set_ylabel("errors corrected, %")
    lower.set_ylabel("drop, points")
    for axes in (upper, lower):
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    save_figure(figure, path)


@in_style
def plot_routes(
    path: str | Path, rewrites: Sequence[str], corrected: Mapping[str, Sequence[float | None]], drops: Sequence[float]
) -> None:
    """Draw what rewrites correct side by side, and what they cost; where more than all is broken, bars are cut off.

    Args:
        path: The PNG file.
        rewrites: Their names, n.
        corrected: Part of the errors that each corrects, by what the errors are of; none where there were none, n each.
        drops: Drop in overall accuracy, a fraction, n.
    """
    figure = Figure(figsize=(2.4 + 1.7 * max(len(rewrites), 3), 5.4), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 2])
    positions, width = np.arange(len(rewrites)), 0.8 / len(corrected)
    for number, (label, parts) in enumerate(corrected.items()):
        heights = [0.0 if part is None else 100 * part for part in parts]
        upper.bar(positions + (number + 0.5) * width - 0.4, heights, width, color=f"C{number}", label=label)
    lower.bar(positions, 100 * np.array(drops), 0.5, color="0.4")
    lower.set_yscale("symlog", linthresh=1)
    names = [name.replace(" by ", "\nby ").replace("(", "\n(").replace(", ", ",\n") for name in rewrites]
    lower.set_xticks(positions, names, fontsize=8)
    upper.set_ylim(-LOWEST_BAR - 5, 105)
    upper.set_ylabel(f"errors corrected, %,\ncut off at −{LOWEST_BAR}")
    lower.set_ylabel("drop in overall\naccuracy, points")
    upper.legend(fontsize=8, loc="lower left")
    for axes in (upper, lower):
        axes.axhline(0, color="black", linewidth=0.8)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    save_figure(figure, path)


@in_style
def plot_few_shots(path: str | Path, points: Mapping[str, Sequence[tuple[str, float, float]]]) -> None:
    """Draw what rules from few photographs correct of the errors on classes that made nothing.

    Args:
        path: The PNG file.
        points: By way, for each number of photographs: its name, the part that is corrected, and its spread.
    """
    numbers = list(dict.fromkeys(name for some in points.values() for name, _, _ in some))
    figure = Figure(figsize=(2.4 + 1.2 * max(len(numbers), 3), 4), layout="constrained")
    axes, width = figure.subplots(), 0.8 / len(points)
    for number, (label, some) in enumerate(points.items()):
        places = [numbers.index(name) + (number + 0.5) * width - 0.4 for name, _, _ in some]
        heights, spreads = ([100 * point[column] for point in some] for column in (1, 2))
        axes.bar(places, heights, width, yerr=spreads, capsize=3, color=f"C{number}", label=label)
    axes.set_xticks(range(len(numbers)), numbers)
    axes.set_xlabel("photographs of each class that makes a rule")
    axes.set_ylabel("errors corrected on the class left out, %")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8)
    save_figure(figure, path)


@in_style
def plot_changed_images(
    path: str | Path,
    images: Tensor,
    labels: Tensor,
    before: Tensor,
    after: Tensor,
    classes: Sequence[str] | None = None,
) -> None:
    """Draw images whose prediction a rewrite has changed: green where it became right, red where it became wrong.

    Args:
        path: The PNG file.
        images: In [0, 1], [n, C, H, W].
        labels: True labels, int64 [n].
        before: Predicted labels of the unedited network, int64 [n].
        after: Predicted labels of the rewritten network, int64 [n].
        classes: Class names by label; by default the labels themselves.
    """
    figure, grid = image_grid(len(images), COLUMNS, 1.9, 2.2)
    for axes, image, *indices in zip(grid.flat, images, labels.tolist(), before.tolist(), after.tolist(), strict=False):
        true, old, new = indices
        show_image(axes, image)
        color = "C2" if new == true else "C1" if old == true else "black"
        names = [
            name_lines(str(index) if classes is None else classes[index], LONGEST_NAME) for index in (true, old, new)
        ]
        axes.set_title(f"{names[0]}\n{names[1]} → {names[2]}", fontsize=7, color=color)
    save_figure(figure, path)
