"""How many images of each stratum an edited network is best scored on, learnt from the outcomes so far."""

import torch
from torch import Tensor

from editable.editing.evaluation.stratified_estimates import moments

__all__ = ["PRIOR_CHANGED", "Allocation"]

PRIOR_CHANGED = 0.1  # part of the images that an edit is expected to change, before any was seen ...
PRIOR_IMAGES = 10  # ... and how many observed images this expectation is worth
# Degrees of freedom that the expected variance of a stratum is worth: many, as a stratum that got too few images costs
# more than one that got too many.
FREEDOM = 100


class Allocation:
    """Divides a sample among H strata of images so that the mean change is known best.

    Stratum h with N_h images, in which changes have the standard deviation S_h within an edit, gets n_h ∝ N_h S_h
    images (Neyman 1934), in whole numbers by the exact rule of Wright (2012, "The equivalence of Neyman optimum
    allocation for sampling and equal proportions for apportioning the U.S. House of Representatives"), at least 2 and
    at most N_h. S_h comes from all outcomes so far, shrunk towards what would be expected if each stratum had the same
    number of changes; so a stratum without any change yet still gets images.

    Args:
        sizes: Number of images of each stratum, N_h, int64 [H].

    Attributes:
        least: The smallest allocation, int64 [H].
    """

    def __init__(self, sizes: Tensor) -> None:
        self.least = sizes.clamp(max=2)
        self._sizes, self._weights = sizes, sizes.double() / int(sizes.sum())
        zeros = torch.zeros(len(sizes), dtype=torch.float64)
        # Of each stratum: images looked at, changes, squared deviations, degrees of freedom.
        self._looked, self._changed, self._squares, self._freedom = (zeros.clone() for _ in range(4))

    @property
    def sums(self) -> dict[str, Tensor]:
        """What has been learnt so far, the tensors themselves."""
        return {name: getattr(self, name) for name in ("_looked", "_changed", "_squares", "_freedom")}

    def learn(self, changes: Tensor, strata: Tensor) -> None:
        """Take in outcomes of E edits, −1, 0 or 1, [E, n], on images of the strata, int64 [n]; those of a pilot too."""
        counts = strata.bincount(minlength=len(self._sizes))
        self._looked += len(changes) * counts
        self._changed.index_add_(0, strata, changes.abs().sum(dim=0).double())
        self._squares += moments(changes, strata, len(self._sizes))[1].sum(dim=0)
        self._freedom += len(changes) * (counts - 1).clamp(min=0)

    def expected_variances(self) -> Tensor:
        """Return the variance within each stratum if each had the same number of changes, float64 [H]."""
        observed = float(self._weights @ (self._changed / self._looked.clamp(min=1)))
        images = float(self._looked.sum())
        share = (PRIOR_IMAGES * PRIOR_CHANGED + images * observed) / (PRIOR_IMAGES + images)
        rates = (share / len(self._sizes) / self._weights).clamp(max=0.5)
        return rates * (1 - rates)

    def best(self, size: int = 0, variance: float = float("inf")) -> Tensor:
        """Return the best allocation n_h, int64 [H], of ``size`` images, or of as few as reach ``variance``."""
        expected = FREEDOM * self.expected_variances()
        variances = (self._squares + expected) / (self._freedom + FREEDOM)
        # The step from k to k + 1 images in stratum h lowers the variance of the mean by W_h² S_h² / (k (k + 1)).
        steps = [torch.arange(2, max(2, members), dtype=torch.float64) for members in self._sizes.tolist()]
        owners = torch.arange(len(steps)).repeat_interleave(torch.tensor([len(step) for step in steps]))
        k = torch.cat(steps)
        gains = (self._weights**2 * variances)[owners] / (k * (k + 1))
        gains, order = gains.sort(descending=True, stable=True)
        # A census has variance 0, so what the steps not taken would gain is the variance that remains.
        num_steps = int((gains.flip(0).cumsum(0) > max(variance, 0.0)).sum())
        num_steps = max(num_steps, size - int(self.least.sum()))
        return self.least + owners[order[:num_steps]].bincount(minlength=len(steps))
