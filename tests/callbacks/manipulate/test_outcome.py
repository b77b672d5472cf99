"""What is counted and logged of manipulated images."""

import torch

from editable.callbacks.manipulate.outcome import ManipulationOutcome


def test_counts_of_classes_and_of_all():
    outcome = ManipulationOutcome(
        out="out",
        classes=["boat", "car", "tram", "bus"],
        labels=torch.tensor([1, 0, 1, 2, 1]),
        names=list("abcde"),
        shares=torch.tensor([0.5, 0.0, 0.25, 0.125, 0.0], dtype=torch.float64),
        examples=None,
    )
    assert outcome.counts() == [(1, 0, 0.0), (3, 2, 0.75), (1, 1, 0.125), (0, 0, 0.0)]
    assert outcome.values() == {"num_images": 5.0, "num_found": 3.0, "num_classes": 2.0, "mean_share": 0.875 / 3}
