"""What an evaluation finds: the unedited network's predictions, and what became of each edit."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["BasePredictions", "EditOutcomes", "EditProgress"]


class BasePredictions(NamedTuple):
    """What the unedited network predicts on a data set of N images.

    Attributes:
        labels: True labels, int64 [N], on the CPU.
        predictions: Predicted labels, int64 [N], on the CPU.
        num_classes: Number of logits.
    """

    labels: Tensor
    predictions: Tensor
    num_classes: int


class EditOutcomes(NamedTuple):
    """What became of each edit; all fields have shape [E] and lie on the CPU.

    Numbers of scoring images are int64, or where images were sampled unbiased estimates, float64.

    Attributes:
        success: Whether the edit objective reached ≤ 0, bool.
        num_steps: Number of updates made, int64.
        errors_after: Number of scoring images that are misclassified after the edit.
        agreeing: Number of scoring images whose prediction after the edit is that before.
        sensitive_agreeing: The same of sensitive images.
        views_before: Number of views of the edited input that have the label asked for before the edit, int64; 0
            without views.
        views_after: The same after the edit.
    """

    success: Tensor
    num_steps: Tensor
    errors_after: Tensor
    agreeing: Tensor
    sensitive_agreeing: Tensor
    views_before: Tensor
    views_after: Tensor


class EditProgress(NamedTuple):
    """An evaluation in its midst: what the same evaluation goes on from.

    Attributes:
        outcomes: Of the first edits, those that are done.
        sampler: The state of what draws scoring images; empty where all are looked at.
    """

    outcomes: EditOutcomes
    sampler: dict[str, Tensor]
