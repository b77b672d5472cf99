"""Errors corrected: what share of a network's mistakes a rewrite corrects, net of the new ones that it makes."""

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["ErrorsCorrected"]


class ErrorsCorrected(Metric):
    """(errors before − errors after) / errors before, on the same images (Santurkar et al., NeurIPS 2021).

    At most 1; negative where more is broken than corrected.

    Attributes:
        corrected: Number of images that only the network before gets wrong.
        broken: Number of images that only the network after gets wrong.

    Example:
        >>> metric = ErrorsCorrected()
        >>> metric.update(torch.tensor([True, True, False]), torch.tensor([False, True, False]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    corrected: Tensor
    broken: Tensor
    before: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("corrected", "broken", "before"):
            self.add_state(name, default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, wrong_before: Tensor, wrong_after: Tensor) -> None:
        """Add images.

        Args:
            wrong_before: Whether the network before gets each image wrong, bool [N].
            wrong_after: The same of the network after.
        """
        self.corrected += (wrong_before & ~wrong_after).sum()
        self.broken += (wrong_after & ~wrong_before).sum()
        self.before += wrong_before.sum()

    def compute(self) -> Tensor:
        """Return the share, a scalar float64; NaN, as undefined, where there was no error before."""
        return (self.corrected - self.broken).double() / self.before
