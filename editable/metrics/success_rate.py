"""Success rate: the share of edits that reach their objective within the allowed steps."""

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["SuccessRate"]


class SuccessRate(Metric):
    """Share of edits whose objective reached ≤ 0 in at most k steps.

    Example:
        >>> metric = SuccessRate()
        >>> metric.update(torch.tensor([True, False]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    successes: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("successes", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, success: Tensor) -> None:
        """Add edits by their outcome, bool, shape [E]."""
        self.successes += success.sum()
        self.total += success.numel()

    def compute(self) -> Tensor:
        """Return the rate, a scalar float64 in [0, 1]; NaN where there was no edit."""
        return self.successes.double() / self.total
