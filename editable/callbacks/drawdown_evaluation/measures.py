"""The figures of a share of edits; they sum over processes."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from editable.editing import EditEvaluator, EditOutcomes
from editable.metrics import Agreement, Drawdown, DrawdownAbsolute, Generality, NumSteps, SuccessRate

__all__ = ["measure_edits"]


def measure_edits(
    outcomes: EditOutcomes, evaluator: EditEvaluator, num_views: int, device: torch.device
) -> dict[str, Tensor]:
    """Compute the metrics from this rank's share of the edits; they sum over ranks, on the device of the network.

    Means over nothing are left out.
    """
    metrics: dict[str, Metric] = {}

    def measure(name: str, metric: Metric, *counts: Any) -> None:
        metric.update(*counts)
        metrics[name] = metric

    measure("success_rate", SuccessRate(), outcomes.success)
    measure("num_steps", NumSteps(), outcomes.num_steps)
    if evaluator.sampling is None:  # else errors are not counted but estimated
        before = torch.tensor(evaluator.errors_before)
        measure("drawdown", Drawdown(), before, outcomes.errors_after, evaluator.num_images)
        measure("drawdown_absolute", DrawdownAbsolute(), before, outcomes.errors_after, evaluator.num_images)
    measure("agreement", Agreement(), outcomes.agreeing, evaluator.num_images)
    measure("sensitive_agreement", Agreement(), outcomes.sensitive_agreeing, evaluator.num_sensitive)
    measure("generality_before", Generality(), outcomes.views_before, num_views)
    measure("generality", Generality(), outcomes.views_after, num_views)
    measure("generality_of_successes", Generality(), outcomes.views_after[outcomes.success], num_views)
    values = {name: metric.to(device).compute() for name, metric in metrics.items()}
    return {name: value for name, value in values.items() if not value.isnan()}
