"""The figure of few-shot rules, from the rules that the repository keeps: ``python docs/figures/few_shot.py``."""

import csv
from pathlib import Path

from editable.callbacks.few_shot.outcome import FewShotOutcome, FewShotTrial
from editable.callbacks.few_shot.report import plot
from editable.callbacks.site.set_errors import SetErrors

ROOT = Path(__file__).parents[2]
SETS = (
    ("tested", "wrong_before", "wrong"),
    ("makers", "makers_wrong_before", "makers_wrong"),
    ("others", "others_wrong_before", "others_wrong"),
)


def kept() -> FewShotOutcome:
    """Return the outcome that the rules come to."""
    with (ROOT / "results" / "few_shot" / "vehicles_on_snow.csv").open(newline="", encoding="utf-8") as file:
        rules = list(csv.DictReader(file))
    classes = sorted({rule["left_out"] for rule in rules})
    trials = [
        FewShotTrial(
            rule["way"],
            int(rule["shots"]) if rule["shots"] else None,
            int(rule["draw"]),
            classes.index(rule["left_out"]),
            float(rule["strength"]),
            *(SetErrors(*(int(rule[name]) for name in names)) for names in SETS),
            int(rule["broken"]),
        )
        for rule in rules
    ]
    return FewShotOutcome(trials, classes, strengths=[0.5, 1.0, 1.5, 2.0, 3.0], max_drop=0.0025, num_known=23)


if __name__ == "__main__":
    plot(kept(), ROOT / "docs" / "figures" / "few_shot_vehicles_on_snow.png")
