"""Baselines of a new class without a filter of its own: its row of the last linear layer's weights, as a vector."""

import torch
from torch import Tensor

from editable.errors import UserError, require_at_least, require_seed

__all__ = ["class_vector", "compositional_vector", "random_vector"]


def random_vector(size: int, seed: int) -> Tensor:
    """Return a vector with independent entries from N(0, 1), float64 [size]; the same for the same seed."""
    require_at_least(1, size=size)
    require_seed(seed=seed)
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def class_vector(features: Tensor) -> Tensor:
    """Return the class feature vector: the mean feature of the new class's object, of unit length.

    The source (Elango 2021, ch. 4.1.4) has one image; several are averaged before the length is made one.

    Args:
        features: Feature vectors of the object in each image, [n, d]; see
            :meth:`~editable.rewriting.FinalFeatures.of_part`.

    Returns:
        float64 [d].

    Raises:
        UserError: If there is no feature vector, one is not finite, or their mean is zero.
    """
    return _unit(_checked(features, "image").mean(dim=0))


def compositional_vector(features: Tensor) -> Tensor:
    """Return the compositional feature vector: the sum of the features of the class's parts, of unit length.

    Each part is found in an image of a class that the network knows, such as a horse's body and a human's chest for a
    centaur (Elango 2021, ch. 4.1.4). There the parts' vectors are added as they are, so that one with a longer vector
    counts more.

    Args:
        features: The feature vector of each part, [n, d].

    Returns:
        float64 [d].

    Raises:
        UserError: If there is no part, a vector is not finite, or their sum is zero.
    """
    return _unit(_checked(features, "part").sum(dim=0))


def _checked(features: Tensor, what: str) -> Tensor:
    if features.ndim != 2 or len(features) == 0:
        raise UserError(f"a feature vector [n, d] of at least one {what} is needed, got shape {list(features.shape)}")
    if not features.isfinite().all():
        raise UserError(f"the feature vector of {what} {int((~features.isfinite()).any(1).nonzero()[0])} is not finite")
    return features.detach().cpu().double()


def _unit(vector: Tensor) -> Tensor:
    length = vector.norm()
    if length == 0:
        raise UserError("a feature vector is zero, and has no direction: the network sees nothing in these images")
    return vector / length
