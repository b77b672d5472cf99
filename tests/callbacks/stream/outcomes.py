"""Outcomes of streams made by hand."""

import torch

from editable.callbacks.stream import StreamOutcome
from editable.callbacks.stream.outcome import StreamPoint

NAN = float("nan")
POINTS = [
    StreamPoint(1, True, 1.0, 0.125, 0.01, 0.005, 0.98, 0.5, [1.0, 0.5, 0.5, 0.0, 1.0], 0, NAN, 0.25, 400),
    StreamPoint(2, True, 1.0, 0.13, 0.015, 0.005, 0.97, 0.75, [1.0, 0.5, 1.0, 0.0, 1.0], 4, 0.5, 0.5, 400),
    StreamPoint(4, False, 0.75, 0.25, 0.14, 0.01, 0.8, 0.625, [0.5, 0.25, 1.0, 0.0, 1.0], 8, 0.25, 1.0, 800),
]


def stream_outcome(**fields) -> StreamOutcome:
    """Four corrections, of which the last has not succeeded."""
    given = {
        "protocol": "stream",
        "editor": "SomeEditor",
        "index": torch.tensor([7, 3, 12, 0]),
        "old_label": torch.tensor([1, 1, 0, 2]),
        "new_label": torch.tensor([0, 2, 2, 1]),
        "kept": torch.tensor([True, True, True, True]),
        "success": torch.tensor([True, True, True, False]),
        "seconds": torch.tensor([0.25, 0.25, 0.25, 0.25], dtype=torch.float64),
        "held": torch.tensor([True, True, True, False]),
        "views_held": torch.tensor([1.0, 0.5, 1.0, 0.0], dtype=torch.float64),
        "points": POINTS,
        "error_before": 0.12,
        "num_judged": 200,
        "generality_before": 0.25,
        "changes_before": [0.0, 0.25, 0.0, 0.0, 0.0],
        "num_views": 2,
        "num_edited_views": 1,
        "augmentation": "shift",
        "seed": 3,
        "classes": ["cat", "dog", "owl"],
    }
    return StreamOutcome(**{**given, **fields})
