"""The weight λ of negative examples, swept: a filter for each, and what comes of it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from editable.errors import UserError
from editable.metrics.weighted_auroc import weighted_auroc
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.new_class.class_filter import ClassFilter, ClassFilterTraining, FilterExamples, filter_maps

__all__ = ["SweepOutcome", "activations", "sweep_negative_weights", "train_for_each_weight"]


class SweepOutcome(NamedTuple):
    """What came of one λ.

    Attributes:
        negative_weight: λ.
        loss: The objective at the end.
        positive_activation: Mean of σ(W * x) over the silhouettes of the positives.
        negative_activation: Mean of σ(W * x) over the negatives; NaN where there are none.
        auc: Area under the weighted ROC curve, on the images that judge.
    """

    negative_weight: float
    loss: float
    positive_activation: float
    negative_activation: float
    auc: float


def train_for_each_weight(
    block: LayerBlock,
    examples: FilterExamples,
    negative_weights: Sequence[float],
    training: ClassFilterTraining,
    progress: Callable[[int], object] = lambda steps: None,
) -> list[ClassFilter]:
    """Train a filter with each λ, from the same initial weights.

    Args:
        block: The layer.
        examples: What all are trained on.
        negative_weights: Each λ.
        training: All other settings.
        progress: Called with the number of steps made since the last call.

    Raises:
        UserError: If there is no λ, one is there twice or negative, or the examples do not do.
    """
    if not negative_weights or len(set(negative_weights)) < len(negative_weights):
        raise UserError(f"a sweep needs different weights of negatives, at least one, got {list(negative_weights)}")
    each = [replace(training, negative_weight=weight) for weight in negative_weights]
    return [one(block, examples, progress) for one in each]


def sweep_negative_weights(
    block: LayerBlock,
    examples: FilterExamples,
    negative_weights: Sequence[float],
    score: Callable[[list[ClassFilter]], Tensor],
    positive: Tensor,
    weights: Tensor | None = None,
    training: ClassFilterTraining | None = None,
    progress: Callable[[int], object] = lambda steps: None,
) -> list[SweepOutcome]:
    """Train a filter with each λ and judge them on other images.

    Args:
        block: The layer.
        examples: What all are trained on.
        negative_weights: Each λ.
        score: Called once, with the F filters: the new class's logit on the images that judge, by each, [N, F].
        positive: Which of these are of the new class, bool [N].
        weights: Of these, such as :func:`~editable.metrics.weights_by_class`, [N]; by default all the same.
        training: All other settings; by default those of :class:`~editable.rewriting.ClassFilterTraining`.
        progress: Called with the number of training steps made since the last call.

    Returns:
        A row for each λ, in the order given.

    Raises:
        UserError: If there is no λ, one is there twice or negative, the examples do not do, or positives or negatives
            are missing among the images that judge.
    """
    training = ClassFilterTraining() if training is None else training
    filters = train_for_each_weight(block, examples, negative_weights, training, progress)
    scores = score(filters)
    return [
        SweepOutcome(
            one.negative_weight,
            one.losses[-1],
            *activations(block, examples, one.weight),
            weighted_auroc(scores[:, number], positive, weights).item(),
        )
        for number, one in enumerate(filters)
    ]


@torch.no_grad()
def activations(block: LayerBlock, examples: FilterExamples, weight: Tensor) -> tuple[float, float]:
    """Return how active a filter is on what it was trained on.

    Args:
        block: The layer.
        examples: What it was trained on.
        weight: Of the filter, [1, c, m, n].

    Returns:
        The mean of σ(W * x) over the silhouettes of the positives, and over all negatives; NaN where there are none.
    """
    inside = filter_maps(block, examples.positives, weight)[:, 0].sigmoid()
    positive = (inside * examples.silhouettes).sum() / examples.silhouettes.sum()
    if not len(examples.negatives):
        return positive.item(), float("nan")
    return positive.item(), filter_maps(block, examples.negatives, weight).sigmoid().mean().item()
