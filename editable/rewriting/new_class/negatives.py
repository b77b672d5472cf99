"""Choosing the negative examples of a new class's filter among images of other classes."""

from typing import Literal

import torch
from torch import Tensor

from editable.errors import UserError, require_at_least, require_seed

__all__ = ["NegativeChoice", "random_negatives", "top_false_positives"]

NegativeChoice = Literal["random", "top"]
"""At random, or those that a filter trained on positives alone responds to most."""


def random_negatives(num_images: int, count: int, seed: int) -> Tensor:
    """Draw negatives at random; fewer with the same seed are a part of more.

    Args:
        num_images: Number of images to draw from.
        count: Number wanted.
        seed: Of the draw.

    Returns:
        Different positions, int64 [count].

    Raises:
        UserError: If there are fewer images than wanted.
    """
    require_at_least(0, num_images=num_images, count=count)
    require_seed(seed=seed)
    _check_count(num_images, count)
    return torch.randperm(num_images, generator=torch.Generator().manual_seed(seed))[:count]


def top_false_positives(scores: Tensor, count: int) -> Tensor:
    """Return the images of other classes that look most like the new one: those of the highest scores.

    In the source (Elango 2021, ch. 4.1.3) the scores are those of a filter trained on the positive alone (λ = 0).

    Args:
        scores: The new class's logit for each image, [N].
        count: Number wanted.

    Returns:
        Positions by falling score, of equal ones the first first, int64 [count].

    Raises:
        UserError: If there are fewer images than wanted, or a score is not finite.
    """
    require_at_least(0, count=count)
    _check_count(len(scores), count)
    if not scores.isfinite().all():
        raise UserError("scores must be finite to be ranked")
    return scores.sort(descending=True, stable=True).indices[:count]


def _check_count(num_images: int, count: int) -> None:
    if count > num_images:
        raise UserError(f"{count} negatives are wanted, but there are only {num_images} images of other classes")
