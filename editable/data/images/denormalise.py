"""Taking normalisation back, for figures."""

from collections.abc import Sequence

import torch
from torch import Tensor

from editable.errors import require_finite

__all__ = ["denormalise"]


def denormalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return normalised images as they are drawn.

    Args:
        images: As a network takes them, ``[..., C, H, W]``.
        mean: mean of each channel that was subtracted.
        std: standard deviation of each channel that they were divided by.

    Returns:
        The images in [0, 1], on the CPU, clipped where they leave it.

    Raises:
        UserError: If a mean or standard deviation is no finite number.
    """
    require_finite(mean=mean, std=std)
    shift, scale = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
    return (images.cpu() * scale + shift).clamp(0, 1)
