"""What comes of a new class: how well each method tells it from the old ones, and what it costs these."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from editable.atomic import write_csv
from editable.metrics import RocCurve, weighted_auroc, weighted_roc, weights_by_class
from editable.rewriting.new_class.logit_calibration import LogitCalibration, calibrate_logit

__all__ = ["NewClassOutcome", "NewLogitScores", "judge_new_logit", "write_outcomes"]


class NewLogitScores(NamedTuple):
    """What a method makes of images; tensors on the CPU.

    Attributes:
        pooled: The new class's logit q before it is scaled and shifted, [N].
        old_logits: [N, K].
        labels: Old classes 0 … K − 1, the new one K, int64 [N].
    """

    pooled: Tensor
    old_logits: Tensor
    labels: Tensor


class NewClassOutcome(NamedTuple):
    """What came of one method with one draw of examples.

    Attributes:
        method: ``filter``, ``random``, ``class vector`` or ``compositional``.
        negative_weight: λ of a filter; none for the others.
        draw: Number of the draw.
        auc: Area under the ROC curve of the new logit, every old class counting the same.
        auc_probability: The same of the probability that the grown classifier gives the new class.
        recall: Part of the new class's test images that the grown classifier gives to it.
        lost: Part of the old classes' test images that it gives to the new class.
        accuracy: Of the grown classifier on the old classes' test images.
        loss: The filter's objective at the end; none for the others.
        positive_activation: Of a filter on the positives that it was trained on; none for the others.
        negative_activation: Of a filter on the negatives; none for the others.
    """

    method: str
    negative_weight: float | None
    draw: int
    auc: float
    auc_probability: float
    recall: float
    lost: float
    accuracy: float
    loss: float | None = None
    positive_activation: float | None = None
    negative_activation: float | None = None


class JudgedLogit(NamedTuple):
    """The figures of a new logit, its ROC curve, and how it was calibrated."""

    outcome: NewClassOutcome
    curve: RocCurve
    calibration: LogitCalibration


def judge_new_logit(
    method: str,
    negative_weight: float | None,
    draw: int,
    pool: NewLogitScores,
    test: NewLogitScores,
    max_loss: float,
) -> JudgedLogit:
    """Calibrate a new logit on images of old classes, and judge it on test images.

    Args:
        method: What made it.
        negative_weight: λ of a filter.
        draw: Number of the draw of examples.
        pool: Scores of images of old classes that it was not trained on.
        test: Scores of test images of old classes and the new one.
        max_loss: Part of the pool's images that may be given to the new class.

    Raises:
        UserError: If it responds alike to all images of the pool, or one kind of test images is missing.
    """
    calibration = calibrate_logit(pool.pooled, pool.old_logits, max_loss)
    new = test.old_logits.shape[1]
    positive, weights = test.labels == new, weights_by_class(test.labels)
    logits = torch.cat([test.old_logits, (test.pooled * calibration.scale + calibration.bias)[:, None]], dim=1)
    predictions = logits.argmax(dim=1)
    # The log of the odds orders images as the probability does, and does not round off to 0 or 1.
    odds = logits[:, new].double() - logits[:, :new].double().logsumexp(dim=1)
    outcome = NewClassOutcome(
        method,
        negative_weight,
        draw,
        auc=weighted_auroc(test.pooled, positive, weights).item(),
        auc_probability=weighted_auroc(odds, positive, weights).item(),
        recall=_share(predictions[positive] == new),
        lost=_share(predictions[~positive] == new),
        accuracy=_share(predictions[~positive] == test.labels[~positive]),
    )
    return JudgedLogit(outcome, weighted_roc(test.pooled, positive, weights), calibration)


def write_outcomes(path: Path, outcomes: Sequence[NewClassOutcome]) -> None:
    """Write a line for each outcome, as CSV; what a method does not have is left empty."""
    write_csv(path, [NewClassOutcome._fields, *outcomes])


def _share(hits: Tensor) -> float:
    return hits.double().mean().item()
