"""ROC curve of target classes against the rest, by the probability that a classifier gives to the target classes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics.classification import BinaryROC
from torchmetrics.functional.classification import binary_roc
from torchmetrics.utilities import dim_zero_cat

from editable.errors import UserError

__all__ = ["TargetCurve", "TargetRoc", "target_curve", "target_probability"]


class TargetCurve(NamedTuple):
    """A receiver operating characteristic and the area under it; float64. Empty and NaN where it is undefined.

    Attributes:
        false_positive_rate: From 0 to 1, ascending, [T].
        true_positive_rate: From 0 to 1, [T].
        auc: Area under the curve, a scalar: the probability that an image of a target class is ranked above another, a
            tie counting half.
    """

    false_positive_rate: Tensor
    true_positive_rate: Tensor
    auc: Tensor


def target_probability(logits: Tensor, targets: Sequence[int]) -> Tensor:
    """Return the probability that a classifier gives to any of the target classes: the sum of their softmax.

    Args:
        logits: [N, C].
        targets: Labels of the target classes.

    Returns:
        float64 [N], in [0, 1].
    """
    chosen = logits.double().softmax(dim=-1)[:, list(targets)].sum(dim=-1)
    return chosen.clamp(max=1)  # rounding may go beyond, which torchmetrics would take for a logit


def target_curve(probabilities: Tensor, positive: Tensor) -> TargetCurve:
    """Return torchmetrics' exact ROC curve; undefined where all images are of target classes, or none is.

    Args:
        probabilities: Of :func:`target_probability`, [N].
        positive: Whether each image is of a target class, [N].
    """
    if not len(positive) or positive.min() == positive.max():
        empty = torch.zeros(0, dtype=torch.float64, device=positive.device)
        return TargetCurve(empty, empty, empty.new_tensor(float("nan")))
    false_positive_rate, true_positive_rate, _ = binary_roc(probabilities, positive.long(), thresholds=None)
    curve = false_positive_rate.double(), true_positive_rate.double()
    return TargetCurve(*curve, torch.trapezoid(curve[1], curve[0]))


class TargetRoc(BinaryROC):
    """torchmetrics' exact ROC curve with :func:`target_probability` for the score; accumulates over processes.

    Args:
        targets: Labels of the target classes.

    Example:
        >>> metric = TargetRoc([0])
        >>> metric.update(torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 2.0]]), torch.tensor([True, False, True]))
        >>> metric.compute().auc
        tensor(0.5000, dtype=torch.float64)
    """

    def __init__(self, targets: Sequence[int]) -> None:
        super().__init__(thresholds=None)
        if not targets:
            raise UserError("a ROC curve of target classes needs at least one of them, got none")
        self.targets = list(targets)

    def update(self, logits: Tensor, positive: Tensor) -> None:
        """Add images.

        Args:
            logits: [N, C].
            positive: Whether each image is of a target class, bool [N].
        """
        super().update(target_probability(logits, self.targets), positive.long())

    def compute(self) -> TargetCurve:
        """Return the curve, as :func:`target_curve` has it."""
        if not len(self.target):
            return target_curve(torch.zeros(0), torch.zeros(0))
        return target_curve(dim_zero_cat(self.preds), dim_zero_cat(self.target))
