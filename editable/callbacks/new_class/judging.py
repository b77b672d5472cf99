"""Judging new logits: each is calibrated on images of old classes, and held against test images."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from editable.callbacks.new_class.look import Look, NewLogitScores
from editable.callbacks.new_class.outcome import LogitFigures
from editable.callbacks.new_class.trial import NewClassTrial
from editable.errors import UserError
from editable.metrics import RocCurve, weighted_auroc, weighted_roc, weights_by_class
from editable.rewriting.new_class.logit_calibration import LogitCalibration, calibrate_logit

__all__ = ["JudgedLogit", "judge_new_logit", "judge_trials"]


class JudgedLogit(NamedTuple):
    """The figures of a new logit, its ROC curve, and how it was calibrated."""

    figures: LogitFigures
    curve: RocCurve
    calibration: LogitCalibration


def judge_new_logit(
    method: str,
    negative_weight: float | None,
    draw: int,
    pool: NewLogitScores,
    test: NewLogitScores,
    max_loss: float,
    scale: float | None = None,
) -> JudgedLogit:
    """Calibrate a new logit on images of old classes, and judge it on test images.

    Args:
        method: What made it.
        negative_weight: λ of a filter.
        draw: Number of the draw of examples.
        pool: Scores of images of old classes that it was not trained on.
        test: Scores of test images of old classes and the new one.
        max_loss: Part of the pool's images that may be given to the new class.
        scale: Of the new logit, where it has one of its own; by default it is calibrated.

    Raises:
        UserError: If it responds alike to all images of the pool, or one kind of test images is missing.
    """
    calibration = calibrate_logit(pool.pooled, pool.old_logits, max_loss, scale)
    new = test.old_logits.shape[1]
    positive, weights = test.labels == new, weights_by_class(test.labels)
    logits = torch.cat([test.old_logits, (test.pooled * calibration.scale + calibration.bias)[:, None]], dim=1)
    predictions = logits.argmax(dim=1)
    # The log of the odds orders images as the probability does, and does not round off to 0 or 1.
    odds = logits[:, new].double() - logits[:, :new].double().logsumexp(dim=1)
    figures = LogitFigures(
        method,
        negative_weight,
        draw,
        auc=weighted_auroc(test.pooled, positive, weights).item(),
        auc_probability=weighted_auroc(odds, positive, weights).item(),
        recall=_share(predictions[positive] == new),
        lost=_share(predictions[~positive] == new),
        accuracy=_share(predictions[~positive] == test.labels[~positive]),
    )
    return JudgedLogit(figures, weighted_roc(test.pooled, positive, weights), calibration)


def judge_trials(
    trials: Sequence[NewClassTrial], of_pool: Look, of_test: Look, max_loss: float
) -> Iterator[JudgedLogit]:
    """Yield what came of each method in each draw: of the draw's filters by λ, of discriminants and of baselines.

    Args:
        trials: By draw.
        of_pool: What the network and the filters of all draws, one after another, make of images of old classes.
        of_test: The same of test images of old classes and the new one.
        max_loss: Part of the pool's images that may be given to the new class.

    Raises:
        UserError: If all images of old classes are negatives, or a new logit cannot be judged.
    """
    number = 0
    for draw, trial in enumerate(trials):
        unseen = torch.ones(len(of_pool.labels), dtype=torch.bool)
        unseen[trial.negatives] = False
        if not unseen.any():
            raise UserError(
                f"all {len(unseen)} images of old classes are negatives, and none is left to calibrate the new "
                "logit: lower num_negatives, or raise num_pool_images"
            )
        for one, (on_positives, on_negatives) in zip(trial.filters, trial.activations, strict=True):
            pool = NewLogitScores(*(scores[unseen] for scores in of_pool.of_filter(number)))
            judged = judge_new_logit("filter", one.negative_weight, draw, pool, of_test.of_filter(number), max_loss)
            figures = judged.figures._replace(
                loss=one.losses[-1], positive_activation=on_positives, negative_activation=on_negatives
            )
            yield judged._replace(figures=figures)
            number += 1
        for name, made in trial.discriminants.items():
            pool, test = (
                some.of_discriminant(made, keys)
                for some in (of_pool, of_test)
                if (keys := some.features if name == "discriminant" else some.keys) is not None
            )
            yield judge_new_logit(name, None, draw, pool, test, max_loss, scale=1.0)
        for name, vector in trial.vectors.items():
            yield judge_new_logit(name, None, draw, of_pool.of_vector(vector), of_test.of_vector(vector), max_loss)


def _share(hits: Tensor) -> float:
    return hits.double().mean().item()
