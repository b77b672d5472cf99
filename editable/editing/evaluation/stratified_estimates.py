"""Formulas of stratified sampling: the mean of a population from a sample, and how far it may be off."""

import torch
from torch import Tensor

__all__ = ["moments", "stratified_estimates", "third_moment", "unit_variances"]


def stratified_estimates(changes: Tensor, strata: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    r"""Estimate the mean of a population from a sample without replacement within each of H strata.

    .. math:: \bar y = \sum_h W_h \bar y_h, \qquad v_h = W_h^2 \left(1 - \frac{n_h}{N_h}\right) \frac{s_h^2}{n_h},
       \qquad W_h = \frac{N_h}{N}

    Both are unbiased: the mean for the population's, the sum of the v_h for the variance of the estimated mean
    (Cochran, Sampling Techniques, 3rd edition, 1977, theorems 5.1 and 5.4).

    Args:
        changes: Observed values of E populations, [E, n].
        strata: The stratum of each column, int64 [n]; at least two columns of each stratum that has two members.
        sizes: Number of members of each stratum, N_h, int64 [H].

    Returns:
        Estimated means, float64 [E], and the contributions v_h to their variances, float64 [E, H].
    """
    counts = strata.bincount(minlength=len(sizes)).clamp(min=1)
    weights = sizes / sizes.sum(dtype=torch.float64)
    means, squares = moments(changes, strata, len(sizes))
    contributions = unit_variances(sizes, counts) * squares / (counts - 1).clamp(min=1)
    return means @ weights, contributions


def moments(changes: Tensor, strata: Tensor, num_strata: int) -> tuple[Tensor, Tensor]:
    """Return the mean and the sum of squared deviations from it within each stratum, float64 [E, H] both."""
    member = torch.nn.functional.one_hot(strata, num_strata).double()
    means = changes.double() @ member / member.sum(dim=0).clamp(min=1)
    return means, (changes - means[:, strata]) ** 2 @ member


def third_moment(changes: Tensor, strata: Tensor, sizes: Tensor) -> float:
    """Return the sum of the estimated third central moments of the edits' estimated means."""
    counts = strata.bincount(minlength=len(sizes))
    weights, sampled = sizes / sizes.sum(dtype=torch.float64), counts / sizes.double()
    means, _ = moments(changes, strata, len(sizes))
    cubes = ((changes - means[:, strata]) ** 3).sum(dim=0)
    return float(cubes @ (weights**3 * (1 - sampled) * (1 - 2 * sampled) / counts.clamp(min=1) ** 3)[strata])


def unit_variances(sizes: Tensor, counts: Tensor) -> Tensor:
    """Return what a variance of 1 in a stratum adds to the variance of the estimated mean, float64 [H]."""
    weights = sizes / sizes.sum(dtype=torch.float64)
    return weights**2 * (1 - counts / sizes.double()) / counts
