"""Metrics of edits: a class that accumulates over batches and processes, and a pure function in ``functional.py``.

One measure a file, named as ``docs/metrics.md`` defines it; start with ``drawdown.py``. How edits are made and scored
is in :mod:`editable.editing`.
"""

from editable.metrics.agreement import Agreement
from editable.metrics.drawdown import Drawdown, DrawdownAbsolute
from editable.metrics.errors_corrected import ErrorsCorrected
from editable.metrics.four_tests import FourTestScores, reference_confidence
from editable.metrics.generality import Generality
from editable.metrics.num_steps import NumSteps
from editable.metrics.success_rate import SuccessRate
from editable.metrics.target_roc import TargetCurve, TargetRoc, target_probability
from editable.metrics.weighted_auroc import RocCurve, WeightedAUROC, weighted_auroc, weighted_roc, weights_by_class

__all__ = [
    "Agreement",
    "Drawdown",
    "DrawdownAbsolute",
    "ErrorsCorrected",
    "FourTestScores",
    "Generality",
    "NumSteps",
    "RocCurve",
    "SuccessRate",
    "TargetCurve",
    "TargetRoc",
    "WeightedAUROC",
    "reference_confidence",
    "target_probability",
    "weighted_auroc",
    "weighted_roc",
    "weights_by_class",
]
