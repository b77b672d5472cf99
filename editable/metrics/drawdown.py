"""Drawdown: what edits cost in error rate on other inputs."""

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["Drawdown", "DrawdownAbsolute"]


class Drawdown(Metric):
    """Mean over edits of (error rate after the edit) − (error rate before), signed (Sinitsin et al., ICLR 2020).

    Errors are accumulated as counts, so the figure does not depend on the order of the edits or on how they are shared
    out over processes.

    Example:
        >>> metric = Drawdown()
        >>> metric.update(torch.tensor(10), torch.tensor([12, 9]), num_images=100)
        >>> metric.compute()
        tensor(0.0050, dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    change: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("change", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, errors_before: Tensor, errors_after: Tensor, num_images: int) -> None:
        """Add edits.

        Args:
            errors_before: Number of misclassified images before any edit, int64, scalar or shape [E].
            errors_after: Number of misclassified images after each edit, int64, shape [E].
            num_images: Number of images that both were counted on.
        """
        self.change += self._count(errors_after - errors_before)
        self.total += errors_after.numel() * num_images

    def compute(self) -> Tensor:
        """Return the drawdown, a scalar float64 in [−1, 1]; NaN where there was no edit."""
        return self.change.double() / self.total

    def _count(self, changes: Tensor) -> Tensor:
        return changes.sum()


class DrawdownAbsolute(Drawdown):
    """Mean over edits of |(error rate after the edit) − (error rate before)|.

    Where some edits improve the error rate, this is larger than the signed :class:`Drawdown`.
    """

    def _count(self, changes: Tensor) -> Tensor:
        return changes.abs().sum()
