"""Number of steps: how many updates an edit takes on average."""

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["NumSteps"]


class NumSteps(Metric):
    """Mean number of updates over all edits; one that failed counts with the k updates it made.

    Example:
        >>> metric = NumSteps()
        >>> metric.update(torch.tensor([0, 3]))
        >>> metric.compute()
        tensor(1.5000, dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    steps: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("steps", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, steps: Tensor) -> None:
        """Add edits by the number of updates each made, int64, shape [E]."""
        self.steps += steps.sum()
        self.total += steps.numel()

    def compute(self) -> Tensor:
        """Return the mean, a scalar float64; NaN where there was no edit."""
        return self.steps.double() / self.total
