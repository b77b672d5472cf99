"""Outcomes of searches made by hand."""

from editable.callbacks.search import SearchOutcome
from editable.editing import RateOutcome

RATES = [
    RateOutcome(1e-5, 0.5, 7.25, 0.001),
    RateOutcome(1e-4, 0.95, 3.5, 0.02),
    RateOutcome(1e-3, 1.0, 1.25, 0.3),
]


def search_outcome(rates: list[RateOutcome] | None = None, **fields) -> SearchOutcome:
    """Three rates, of which the lowest has too few successes, and the highest costs most."""
    given = {
        "num_edits": 20,
        "seed": 3,
        "split": "val",
        "min_success": 0.95,
        "num_scoring_images": 200,
        "scoring_error": 0.1,
        "editor": {"evaluation": {"editor": {"class_path": "Editor"}, "editable_layers": ["layer3"]}},
    }
    return SearchOutcome(RATES if rates is None else rates, **{**given, **fields})
