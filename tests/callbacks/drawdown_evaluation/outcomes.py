"""Outcomes of evaluations made by hand."""

import torch

from editable.callbacks import EvaluatedEdits
from editable.editing import EditOutcomes


def evaluated_edits(**fields) -> EvaluatedEdits:
    """Three edits, of which the second fails and the last had nothing to do, scored on 50 images."""
    edits = EditOutcomes(
        success=torch.tensor([True, False, True]),
        num_steps=torch.tensor([2, 10, 0]),
        errors_after=torch.tensor([12, 9, 10]),
        agreeing=torch.tensor([45, 49, 50]),
        sensitive_agreeing=torch.tensor([1, 2, 4]),
        views_before=torch.tensor([0, 1, 8]),
        views_after=torch.tensor([4, 6, 8]),
    )
    given = {
        "stage": "test",
        "index": torch.tensor([7, 3, 21]),
        "old_label": torch.tensor([0, 1, 2]),
        "new_label": torch.tensor([1, 0, 2]),
        "outcomes": edits,
        "errors_before": 10,
        "num_images": 50,
        "num_sensitive": 4,
        "num_views": 8,
        "num_edited_views": 0,
        "augmentation": "shift",
        "images": torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0)),
        "classes": ["cat", "dog", "frog"],
    }
    return EvaluatedEdits(**{**given, **fields})
