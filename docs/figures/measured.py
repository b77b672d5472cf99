"""The figures of measured results, from what is stored of them: ``python docs/figures/measured.py [name …]``.

They are drawn by the functions that commands draw theirs with, of rows of ``results/measured/`` that have a name for it
(``drawn``). A picture keeps a digest of the rows that it shows, by which a test sees that it is not of older ones.
"""

import hashlib
import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from editable.atomic import write_atomically
from editable.metrics import TargetCurve
from editable.visualize import (
    plot_candidates,
    plot_comparison,
    plot_layers,
    plot_learning_rates,
    plot_routes,
    plot_stream,
)
from editable.visualize.drawing import save_figure
from editable.visualize.four_tests import RocPanel, plot_roc_before_and_after
from editable.visualize.inverse import plot_survival, plot_trade_off
from editable.visualize.new_classes import plot_negative_weights, plot_new_class_roc
from editable.visualize.spurious_scan import SHOWN, Bars, plot_scan

ROOT = Path(__file__).parents[2]
Row = dict[str, Any]
LEAST_SUCCESS = 0.95
"""Of edits at a learning rate that is chosen."""
LARGEST_DROP = 0.0025
"""In accuracy, by a rewrite that is chosen."""


def comparison(path: Path, rows: Sequence[Row]) -> None:
    """Draw what edits cost, and what else differs between the rows."""
    errors, generalities = ([row.get(name) for row in rows] for name in ("test_error", "generality"))
    plot_comparison(
        path,
        [row["drawn"] for row in rows],
        errors if None not in errors else None,
        [row["drawdown"] for row in rows],
        [row["drawdown_half_width"] for row in rows],
        generalities if None not in generalities else None,
    )


def learning_rates(path: Path, rows: Sequence[Row], kind: str = "") -> None:
    """Draw a search; the rate that costs least where enough edits succeed is the one that was chosen."""
    points = [
        (row["learning_rate"], row[f"{kind}drawdown"], row["half_width"], row[f"{kind}success_rate"])
        for row in rows
        if f"{kind}drawdown" in row
    ]
    chosen = min((point for point in points if point[3] >= LEAST_SUCCESS), key=lambda point: point[1])
    plot_learning_rates(path, *zip(*points, strict=True), LEAST_SUCCESS, chosen[0])  # type: ignore[arg-type]


def routes(path: Path, rows: Sequence[Row]) -> None:
    """Draw what ways to a rule correct of the errors on its class, the first half of the rows, and on others."""
    ways = [row for row in rows if "drawn" in row]
    unedited = next(row["overall_accuracy"] for row in rows if row["way"] == "before the edit")
    half = len(ways) // 2
    corrected = {
        f"{whose}, by {what}": [row[f"{key}_corrected"] for row in some]
        for whose, some in (("target class", ways[:half]), ("other classes", ways[half:]))
        for what, key in (("true labels", "truth"), ("prediction before", "kept"))
    }
    drops = [unedited - row["overall_accuracy"] for row in ways[:half]]
    plot_routes(path, [row["drawn"] for row in ways[:half]], corrected, drops)


def layers(path: Path, rows: Sequence[Row]) -> None:
    """Draw the best candidate of each layer."""
    names, corrected, drops = ([row[name] for row in rows] for name in ("drawn", "errors_corrected", "drop"))
    plot_layers(path, names, corrected, drops, LARGEST_DROP)


def stream(path: Path, rows: Sequence[Row]) -> None:
    """Draw what holds of corrections, and what they cost."""
    changed = [fmean(row[name] for name in row if name.startswith("generality_")) for row in rows]
    held = {"corrected images": "retention", "other views of them": "generality"}
    plot_stream(
        path,
        [row["num_edits"] for row in rows],
        {
            **{label: [row[name] for row in rows] for label, name in held.items()},
            "changed in other ways": changed,
            "other mistakes of the same kind": [row["group_generality"] for row in rows],
        },
        {
            "error, change": [row["error"] - rows[0]["error"] for row in rows],
            "broken": [row["broken"] for row in rows],
            "mended": [row["mended"] for row in rows],
        },
    )


def survival(path: Path, rows: Sequence[Row]) -> None:
    """Draw accuracy against how far a layer is from the rule after a rewrite."""
    sets = {"test images": "accuracy", "held-out images with the new concept": "held_out"}
    unedited, *methods = rows
    plot_survival(
        path,
        {row["drawn"]: row["residual"] for row in methods},
        {label: {row["drawn"]: row[name] for row in methods} for label, name in sets.items()},
        {label: unedited[name] for label, name in sets.items()},
    )


def trade_off(path: Path, rows: Sequence[Row]) -> None:
    """Draw what rewrites of several strengths gain against what they cost."""
    unedited, *others = rows
    gains, drops = (
        {name: [sign * (row[error] - unedited[error]) for row in others if row["drawn"] == name] for name in names}
        for sign, error in ((-1, "held_out_error"), (1, "report_error"))
        for names in [dict.fromkeys(row["drawn"] for row in others)]
    )
    plot_trade_off(path, gains, drops, "held-out images with the new concept", "test images")


def benchmark_named(name: str) -> ModuleType:
    """Return a benchmark's module."""
    sys.path.append(str(ROOT / "benchmarks"))
    return import_module(name)


def growth(path: Path, rows: Sequence[Row]) -> None:
    """Draw how time grows, and the law that is fitted to it, as the benchmark does."""
    benchmark = benchmark_named("growth")
    law, *points = rows
    seconds: dict[str, dict[float, float]] = {}
    for point in points:
        seconds.setdefault(point["curve"], {})[point["x"]] = point["seconds"]
    names = {point["x"]: point["drawn"] for point in points if "drawn" in point}
    drawn = benchmark.Law(law["law"], law["quantity"], law["expected"], seconds, names, law["logarithmic"])
    save_figure(benchmark.draw(drawn, {curve: benchmark.fit(some) for curve, some in seconds.items()}), path)


def roofline(path: Path, rows: Sequence[Row]) -> None:
    """Draw the rates of a network's parts below the roofs of a machine, as the benchmark does."""
    benchmark = benchmark_named("roofline")
    roofs, *others = rows
    shown = [row for row in others if "drawn" in row]
    parts = {
        row["drawn"]: benchmark.Part(None, row["precision"], 1e9 * row["gflop"], 1e9 * row["gflop"] / row["intensity"])
        for row in shown
    }
    seconds = {row["drawn"]: row["gflop"] / row["rate"] for row in shown}
    peaks = {name: 1e9 * roofs[name] for name in ("float32", "bfloat16")}
    arguments = Namespace(width=64, batch_size=128, device="cpu")
    save_figure(benchmark.draw(arguments, parts, seconds, benchmark.Roofs(peaks, 1e9 * roofs["bandwidth"])), path)


def candidates(path: Path, rows: Sequence[Row]) -> None:
    """Draw what rewrites correct against what they cost, on the images that choose, as `rewrite` does."""
    limit, *tried = rows
    plot_candidates(
        path,
        [row["drop"] for row in tried],
        [row["corrected"] for row in tried],
        [row["solver"] for row in tried],
        limit["max_drop"],
        next(number for number, row in enumerate(tried) if "chosen" in row),
    )


def curves_of_target(path: Path, rows: Sequence[Row]) -> None:
    """Draw ROC curves before and after an edit, as `judge` does."""
    curves: dict[str, dict[str, TargetCurve]] = {}
    for row in rows:
        rates = (torch.tensor(row[f"{kind}_positive_rate"]) for kind in ("false", "true"))
        curves.setdefault(row["title"], {})[row["when"]] = TargetCurve(*rates, torch.tensor(row["auc"]))
    plot_roc_before_and_after(path, [RocPanel(title, **both) for title, both in curves.items()])


def curves_of_class(path: Path, rows: Sequence[Row]) -> None:
    """Draw ROC curves of several methods, each of some draws, as `new_class` does."""
    curves: dict[str, list[tuple[Tensor, Tensor, float]]] = {}
    for row in rows:
        false, true = (torch.tensor(row[f"{kind}_positive_rate"]) for kind in ("false", "true"))
        curves.setdefault(row["method"], []).append((false, true, row["auc"]))
    plot_new_class_roc(path, curves)


def negative_weights(path: Path, rows: Sequence[Row]) -> None:
    """Draw what the weight of negatives does, as `new_class` does."""
    filters = [row for row in rows if "weight" in row]
    names = ("weight", "areas", "positive_activations", "negative_activations")
    baselines = {row["method"]: row["auc"] for row in rows if "method" in row}
    plot_negative_weights(path, *([row[name] for row in filters] for name in names), baselines)


def scan(path: Path, rows: Sequence[Row]) -> None:
    """Draw how classes change where a concept is replaced, in a network and in its rewrite, as `scan` does."""

    def changes(measure: str) -> dict[str, list[tuple[float, float]]]:
        names = {"network": measure, "edited": f"edited_{measure}"}
        return {
            drawn: [(row[f"{name}_change"], row[f"{name}_half_width"]) for row in rows] for drawn, name in names.items()
        }

    plot_scan(path, [row["class"] for row in rows], [Bars.of(measure, changes(measure)) for measure in SHOWN])


FIGURES: dict[str, tuple[Callable[[Path, Sequence[Row]], None], tuple[str, ...]]] = {
    **{
        name: (comparison, (f"results.{name}",))
        for name in (
            "six_editors",
            "fine_tuning",
            "fine_tuning_options",
            "natural_mistakes",
            "extra_layer",
            "whitened_extra_layer",
        )
    },
    "small_network": (comparison, ("results.small_network", "results.small_network_extra_layer")),
    "search_pretrained_rmsprop": (learning_rates, ("results.learning_rates",)),
    "search_fine_tuned_rmsprop": (partial(learning_rates, kind="tuned_"), ("results.learning_rates",)),
    "four_tests_candidates": (candidates, ("four-tests.candidates_drawn",)),
    "four_tests_roc": (curves_of_target, ("four-tests.curves",)),
    "new_class_roc": (curves_of_class, ("new-classes.curves",)),
    "new_class_weights": (negative_weights, ("new-classes.weights",)),
    "rewrite_candidates": (candidates, ("rewriting.snow_candidates",)),
    "rewrite_layers": (layers, ("rewriting.snow_layers",)),
    "rewrite_routes": (routes, ("rewriting.routes_target", "rewriting.routes_others")),
    "scan_planted_patch": (scan, ("spurious-correlations.scan_edited",)),
    "stream_codebook": (stream, ("many-corrections.codebook",)),
    "inverse_survival": (survival, ("inverse.methods",)),
    "inverse_trade_off": (trade_off, ("inverse.strengths",)),
    **{
        name: (growth, (f"performance.{name}",))
        for name in ("growth_k", "growth_edits", "growth_layers", "growth_number")
    },
    "roofline": (roofline, ("performance.roofs", "performance.roofline")),
}
"""By a figure's name, what draws it, and of which tables."""


def rows_of(figure: str) -> list[Row]:
    """Return the rows of a figure's tables; those with names, where only such are compared."""
    plot, names = FIGURES[figure]
    files = [ROOT / "results" / "measured" / f"{name}.json" for name in names]
    rows = [row | row.get("metrics", {}) for file in files for row in json.loads(file.read_text("utf-8"))["rows"]]
    return [row for row in rows if "drawn" in row] if plot is comparison else rows


def digest(rows: Sequence[Row]) -> str:
    """Return what tells rows from others."""
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def draw(figure: str, path: Path) -> None:
    """Draw a figure, and leave in it what it is of."""
    rows = rows_of(figure)
    FIGURES[figure][0](path, rows)
    kept = PngInfo()
    kept.add_text("rows", digest(rows))
    with Image.open(path) as picture, write_atomically(path) as temporary:
        picture.save(temporary, format="png", pnginfo=kept, optimize=True)


if __name__ == "__main__":
    for name in sys.argv[1:] or FIGURES:
        draw(name, ROOT / "docs" / "figures" / f"{name}.png")
