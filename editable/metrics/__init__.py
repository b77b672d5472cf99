"""Metrics of edits: a class that accumulates over batches and processes, and a pure function in ``functional``."""

from editable.metrics.agreement import Agreement
from editable.metrics.drawdown import Drawdown, DrawdownAbsolute
from editable.metrics.errors_corrected import ErrorsCorrected
from editable.metrics.generality import Generality
from editable.metrics.num_steps import NumSteps
from editable.metrics.success_rate import SuccessRate

__all__ = ["Agreement", "Drawdown", "DrawdownAbsolute", "ErrorsCorrected", "Generality", "NumSteps", "SuccessRate"]
