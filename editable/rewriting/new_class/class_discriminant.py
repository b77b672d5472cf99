"""A new class by linear discriminants: the log odds of it against all old classes, in whitened keys of a layer."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from editable.errors import UserError, require_not_negative
from editable.rewriting.memory.inverse_moment import InverseMoment, Regularisation

__all__ = ["ClassDiscriminant", "ClassStatistics", "Discriminant", "class_statistics"]

SOFTEST = -12.0
"""Least logarithm of the temperature's reciprocal that is looked at."""


class ClassStatistics(NamedTuple):
    """What keys of images of old classes say of classes.

    Attributes:
        keys: Of the images that they were made from, float64 [N, d].
        labels: Their classes, int64 [N].
        means: μ_k of each old class, float64 [K, d].
        within: Σ, the covariance of keys within a class, float64 [d, d].
    """

    keys: Tensor
    labels: Tensor
    means: Tensor
    within: Tensor


class Discriminant(NamedTuple):
    """Linear discriminants of a new class, row 0, and of the K old ones, all in one metric.

    Attributes:
        weight: float64 [1 + K, d].
        bias: float64 [1 + K].
    """

    weight: Tensor
    bias: Tensor

    def odds(self, keys: Tensor) -> Tensor:
        """Return the log odds of the new class against all old ones, float64 [N], for keys [N, d]."""
        scores = keys.double() @ self.weight.T + self.bias
        return scores[:, 0] - scores[:, 1:].logsumexp(dim=1)


def class_statistics(keys: Tensor, labels: Tensor, num_classes: int) -> ClassStatistics:
    """Return the means of old classes, and the covariance of keys within them.

    Args:
        keys: What a layer reads of each image, [N, d].
        labels: The images' classes, int64 [N].
        num_classes: K.

    Raises:
        UserError: If shapes differ, a key is not finite, a class has no image, or there are fewer than two images more
            than classes.
    """
    if keys.ndim != 2 or labels.shape != keys.shape[:1]:
        raise UserError(f"keys [N, d] need as many labels, got shapes {list(keys.shape)} and {list(labels.shape)}")
    if not keys.isfinite().all():
        raise UserError("what the layer reads on images of old classes is not finite: look at the images and weights")
    labels, keys = labels.cpu(), keys.detach().cpu().double()
    counts = labels.bincount(minlength=num_classes)
    if len(counts) > num_classes or not counts.all():
        raise UserError(
            f"a discriminant needs images of each of the {num_classes} old classes, but {int((counts == 0).sum())} "
            f"have none among {len(labels)}: raise num_pool_images"
        )
    if len(keys) < num_classes + 2:
        raise UserError(
            f"a discriminant needs the spread within classes, so at least two images more than the {num_classes} "
            f"classes, got {len(keys)}: raise num_pool_images"
        )
    means = keys.new_zeros(num_classes, keys.shape[1]).index_add_(0, labels, keys) / counts[:, None]
    apart = keys - means[labels]
    return ClassStatistics(keys, labels, means, apart.T @ apart / (len(keys) - num_classes))


@dataclass(frozen=True)
class ClassDiscriminant:
    r"""Makes linear discriminants from a few keys of a new class: Fisher's, with the new mean shrunk.

    The keys k of each class are taken to be spread about its mean as Σ says, the covariance within old classes. Then

    .. math:: \log \frac{p(\text{new} \mid k)}{\sum_j p(j \mid k)} = q_\text{new} - \log \sum_j e^{q_j}, \qquad
              q_c = t \, (\mu_c^\top \tilde\Sigma^{-1} k - \tfrac12 \mu_c^\top \tilde\Sigma^{-1} \mu_c), \qquad
              \tilde\Sigma = \Sigma + \epsilon s I,

    s being Σ's mean eigenvalue. The mean of n keys lies, by chance, Σ̃/n away from the new class's own; it is shrunk
    towards the old classes, least along the directions in which these differ:

    .. math:: \mu_\text{new} = \mu + B (B + \tilde\Sigma / n)^{-1} (\bar k - \mu), \qquad
              B = \mathrm{Cov}_j \, \mu_j + \tau \tilde\Sigma,

    the posterior mean of a class that is drawn as the old ones were, at μ with the spread B (Ioffe, "Probabilistic
    linear discriminant analysis", 2006); τ stands for the directions of which K classes say nothing. Keys are no
    Gaussians, and discriminants of many dimensions are too sure of themselves: t ≤ 1 is the scale at which those of
    the old classes give the images that they were made from the largest likelihood.

    Args:
        epsilon: ε: 0 whitens fully, a large one leaves the keys' own metric.
        spread: τ; a large one does not shrink.

    Raises:
        UserError: If a number is negative.
    """

    epsilon: float = 0.1
    spread: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        require_not_negative(epsilon=self.epsilon, spread=self.spread)

    def __call__(self, keys: Tensor, old: ClassStatistics) -> Discriminant:
        """Make the discriminants.

        Args:
            keys: Of the new class, [n, d].
            old: Of the old classes.

        Raises:
            UserError: If there is no key, one is not finite or of another size, or Σ̃ is singular.
        """
        size = old.means.shape[1]
        if keys.ndim != 2 or len(keys) == 0 or keys.shape[1] != size:
            raise UserError(f"keys [n, {size}] of at least one image are needed, got shape {list(keys.shape)}")
        keys = keys.detach().cpu().double()
        if not keys.isfinite().all():
            first = int((~keys.isfinite()).any(1).nonzero()[0])
            raise UserError(f"what the layer reads on image {first} of the new class is not finite")
        metric = old.within + self.epsilon * old.within.trace() / size * torch.eye(size, dtype=torch.float64)
        means = torch.cat([self._mean(keys, old, metric)[None], old.means])
        weight = InverseMoment(metric, Regularisation(epsilon=0)).solve(means.T).T
        bias = -(weight * means).sum(dim=1) / 2
        scale = _scale(old.keys @ weight[1:].T + bias[1:], old.labels)
        return Discriminant(scale * weight, scale * bias)

    def _mean(self, keys: Tensor, old: ClassStatistics, metric: Tensor) -> Tensor:
        """Return the new class's mean, shrunk towards the old classes."""
        centre = old.means.mean(dim=0)
        apart = old.means - centre
        between = apart.T @ apart / max(len(apart) - 1, 1) + self.spread * metric
        return centre + between @ torch.linalg.solve(between + metric / len(keys), keys.mean(dim=0) - centre)


def _scale(scores: Tensor, labels: Tensor) -> float:
    """Return the scale t ≤ 1 of scores [N, K] that gives labels the largest likelihood."""
    found = minimize_scalar(
        lambda log_scale: functional.cross_entropy(scores * float(torch.tensor(log_scale).exp()), labels).item(),
        bounds=(SOFTEST, 0.0),
        method="bounded",
    )
    return float(torch.tensor(found.x).exp())
