"""Metrics of edits: a class that accumulates over batches and processes, and a pure function in ``functional``."""

from editable.metrics.agreement import Agreement
from editable.metrics.drawdown import Drawdown, DrawdownAbsolute
from editable.metrics.errors_corrected import ErrorsCorrected
from editable.metrics.generality import Generality
from editable.metrics.num_steps import NumSteps
from editable.metrics.success_rate import SuccessRate
from editable.metrics.weighted_auroc import RocCurve, WeightedAUROC, weighted_auroc, weighted_roc, weights_by_class

__all__ = [
    "Agreement",
    "Drawdown",
    "DrawdownAbsolute",
    "ErrorsCorrected",
    "Generality",
    "NumSteps",
    "RocCurve",
    "SuccessRate",
    "WeightedAUROC",
    "weighted_auroc",
    "weighted_roc",
    "weights_by_class",
]
