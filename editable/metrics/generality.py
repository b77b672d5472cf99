"""Generality: whether an edit holds beyond the one input that it was made for."""

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["Generality"]


class Generality(Metric):
    """Mean over edits of the share of views of the edited input that the network gives the label asked for.

    The "paraphrase score" or "generalization" of knowledge editing (Meng et al., NeurIPS 2022) with augmented views in
    the place of paraphrases; as there, over all edits, those that failed included.

    Example:
        >>> metric = Generality()
        >>> metric.update(torch.tensor([8, 4]), num_views=8)
        >>> metric.compute()
        tensor(0.7500, dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    held: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("held", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, held: Tensor, num_views: int) -> None:
        """Add edits.

        Args:
            held: Number of views of each edited input with the label asked for, int64, shape [E].
            num_views: Number of views of each.
        """
        self.held += held.sum()
        self.total += held.numel() * num_views

    def compute(self) -> Tensor:
        """Return the share, a scalar float64 in [0, 1]; NaN where there was no edit or no view."""
        return self.held.double() / self.total
