"""The figure of few-shot rules, from the rules that the repository keeps: ``python docs/figures/few_shot.py``."""

import csv
from pathlib import Path
from statistics import fmean, stdev

from editable.visualize.rewrites import plot_few_shots

ROOT = Path(__file__).parents[2]


def corrected() -> dict[str, list[tuple[str, float, float]]]:
    """Return for each way, by photographs a class, the part of the errors that is corrected, and its spread."""
    with (ROOT / "results" / "few_shot" / "vehicles_on_snow.csv").open(newline="", encoding="utf-8") as file:
        rules = list(csv.DictReader(file))
    points: dict[str, list[tuple[str, float, float]]] = {}
    for way, shots in dict.fromkeys((rule["way"], rule["shots"]) for rule in rules):
        parts = []
        for draw in dict.fromkeys(rule["draw"] for rule in rules):
            some = [rule for rule in rules if (rule["way"], rule["shots"], rule["draw"]) == (way, shots, draw)]
            before, after = (sum(int(rule[name]) for rule in some) for name in ("wrong_before", "wrong"))
            parts += [(before - after) / before] if before else []
        spread = stdev(parts) if len(parts) > 1 else float("nan")
        points.setdefault(way, []).append((shots or "all", fmean(parts), spread))
    return points


if __name__ == "__main__":
    plot_few_shots(ROOT / "docs" / "figures" / "few_shot_vehicles_on_snow.png", corrected())
