"""Weighted ROC curve and AUC: how well scores tell one class from all others, each image counting by its weight."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from editable.errors import UserError

__all__ = ["RocCurve", "WeightedAUROC", "weighted_auroc", "weighted_roc", "weights_by_class"]


class RocCurve(NamedTuple):
    """A receiver operating characteristic, from (0, 0) to (1, 1); float64 [T], on the CPU.

    Attributes:
        false_positive_rate: Of the negatives' weight, the part with a score of at least the threshold; ascending.
        true_positive_rate: The same of the positives.
        thresholds: Falling; the first is infinite.
    """

    false_positive_rate: Tensor
    true_positive_rate: Tensor
    thresholds: Tensor


def weights_by_class(labels: Tensor) -> Tensor:
    """Return a weight for each image by which every class counts as much as any other: 1 / number of its images.

    In a ROC curve of one class against all others, weights that are constant within positives and within negatives
    change nothing; these let every one of the other classes count the same among the negatives.

    Args:
        labels: The images' original classes, int64 [N].

    Returns:
        float64 [N]; the weights of each class add up to 1.
    """
    _, class_of, counts = labels.unique(return_inverse=True, return_counts=True)
    return counts.double().reciprocal()[class_of]


def weighted_roc(scores: Tensor, positive: Tensor, weights: Tensor | None = None) -> RocCurve:
    """Compute the ROC curve of weighted samples; equal scores are one step of it.

    Args:
        scores: Higher for what is more likely positive, floating [N].
        positive: Bool [N].
        weights: Not negative, floating [N]; by default all the same.

    Raises:
        UserError: If shapes differ, a score or weight is not finite, a weight is negative, or positives or negatives
            are missing or without weight.
    """
    from sklearn.metrics import roc_curve  # it takes pandas along, which nothing else needs

    scores = scores.detach().cpu().double()
    positive = positive.detach().cpu().bool()
    weights = torch.ones_like(scores) if weights is None else weights.detach().cpu().double()
    _check(scores, positive, weights)
    curve = roc_curve(positive.numpy(), scores.numpy(), sample_weight=weights.numpy(), drop_intermediate=False)
    return RocCurve(*(torch.from_numpy(values) for values in curve))


def weighted_auroc(scores: Tensor, positive: Tensor, weights: Tensor | None = None) -> Tensor:
    """Compute the area under the ROC curve of weighted samples.

    Σ w_p w_n (1[s_p > s_n] + ½ 1[s_p = s_n]) / Σ w_p w_n over all pairs of a positive p and a negative n: the
    probability that a positive has the higher score, a tie counting half. torchmetrics' ``BinaryAUROC`` takes no
    weights.

    Args:
        scores: Higher for what is more likely positive, floating [N].
        positive: Bool [N].
        weights: Not negative, floating [N], such as :func:`weights_by_class`; by default all the same.

    Returns:
        Scalar float64 in [0, 1].

    Raises:
        UserError: As of :func:`weighted_roc`.
    """
    curve = weighted_roc(scores, positive, weights)
    return torch.trapezoid(curve.true_positive_rate, curve.false_positive_rate)


class WeightedAUROC(Metric):
    """Area under the ROC curve of weighted samples, accumulated over batches and processes; see :func:`weighted_auroc`.

    Example:
        >>> metric = WeightedAUROC()
        >>> metric.update(torch.tensor([0.9, 0.4, 0.1]), torch.tensor([True, False, False]))
        >>> metric.update(torch.tensor([0.4]), torch.tensor([True]), torch.tensor([3.0]))
        >>> metric.compute()
        tensor(0.8125, dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    scores: list[Tensor]
    positive: list[Tensor]
    weights: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("scores", "positive", "weights"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, scores: Tensor, positive: Tensor, weights: Tensor | None = None) -> None:
        """Add samples.

        Args:
            scores: Higher for what is more likely positive, floating [N].
            positive: Bool [N].
            weights: Not negative, floating [N]; by default 1.
        """
        self.scores.append(scores.detach().double())
        self.positive.append(positive)
        self.weights.append(torch.ones_like(self.scores[-1]) if weights is None else weights.detach().double())

    def compute(self) -> Tensor:
        """Return the area, a scalar float64 in [0, 1]; NaN where there are no positives or no negatives."""
        scores, positive, weights = self._samples()
        if not self._has_both(positive, weights):
            return torch.tensor(float("nan"), dtype=torch.float64)
        return weighted_auroc(scores, positive, weights).to(scores.device)

    def curve(self) -> RocCurve:
        """Return the ROC curve of this process's samples.

        Raises:
            UserError: If there are no positives or no negatives.
        """
        return weighted_roc(*self._samples())

    def _samples(self) -> tuple[Tensor, Tensor, Tensor]:
        empty = torch.zeros(0, dtype=torch.float64)
        scores, positive, weights = (
            dim_zero_cat(state) if len(state) else empty for state in (self.scores, self.positive, self.weights)
        )
        return scores, positive.bool(), weights

    @staticmethod
    def _has_both(positive: Tensor, weights: Tensor) -> bool:
        return bool(weights[positive].sum() > 0) and bool(weights[~positive].sum() > 0)


def _check(scores: Tensor, positive: Tensor, weights: Tensor) -> None:
    shapes = [list(tensor.shape) for tensor in (scores, positive, weights)]
    if scores.ndim != 1 or shapes.count(shapes[0]) < 3:
        raise UserError(f"a ROC curve needs scores, positives and weights of one shape [N], got {shapes}")
    if not scores.isfinite().all():
        raise UserError(f"scores must be finite, but {int((~scores.isfinite()).sum())} of {len(scores)} are not")
    if not (weights.isfinite() & (weights >= 0)).all():
        raise UserError(f"weights must be finite and not negative, got values from {weights.min()} to {weights.max()}")
    for name, chosen in (("positive", positive), ("negative", ~positive)):
        if not weights[chosen].sum() > 0:
            there = f"{int(chosen.sum())}" if not chosen.any() else f"{int(chosen.sum())}, all of weight 0"
            raise UserError(f"a ROC curve compares two kinds of images, but of {name} ones there are {there}")
