"""Agreement: how many predictions on other inputs an edit leaves as they were."""

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["Agreement"]


class Agreement(Metric):
    """Mean over edits of the share of images whose prediction after the edit is that before.

    Unlike drawdown, it also sees a wrong label that another wrong label replaces, and an error made does not cancel an
    error mended. On a sensitive set, images that the network before gets right by a narrow margin, it is the share that
    stays right. Numbers of images may be unbiased estimates.

    Example:
        >>> metric = Agreement()
        >>> metric.update(torch.tensor([98, 95]), num_images=100)
        >>> metric.compute()
        tensor(0.9650, dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    agreeing: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("agreeing", default=torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, agreeing: Tensor, num_images: int) -> None:
        """Add edits.

        Args:
            agreeing: Number of images with the same prediction before and after each edit, shape [E].
            num_images: Number of images that were compared.
        """
        self.agreeing += agreeing.sum()
        self.total += agreeing.numel() * num_images

    def compute(self) -> Tensor:
        """Return the share, a scalar float64 in [0, 1]; NaN where there was no edit or no image."""
        return self.agreeing / self.total
