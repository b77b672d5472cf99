"""Filling a masked region of an image from what surrounds it."""

import torch
from torch import Tensor
from torch.nn import functional

from editable.errors import UserError

__all__ = ["fill_from_surroundings", "surroundings"]


def fill_from_surroundings(images: Tensor, masks: Tensor) -> Tensor:
    """Return images with the masked region filled smoothly from what surrounds it.

    The pull–push algorithm of Gortler, Grzeszczuk, Szeliski, Cohen, "The Lumigraph", 1996: known pixels are averaged
    over ever larger squares until all are known, and each unknown pixel is taken from the next coarser image,
    interpolated. Pixels that the mask leaves out stay exactly as they are.

    Args:
        images: floats, ``[N, C, H, W]``.
        masks: what to fill, in [0, 1], ``[N, H, W]``.

    Returns:
        The filled images, ``[N, C, H, W]``. An image that the mask covers has no surroundings, and stays as it is.

    Raises:
        UserError: sizes differ, or the images are not floats.
    """
    if images.ndim != 4 or masks.shape != (len(images), *images.shape[-2:]) or not images.is_floating_point():
        raise UserError(
            f"images must be floats [N, C, H, W], and masks [N, H, W] of the same size, got {images.dtype} "
            f"{list(images.shape)} and {list(masks.shape)}."
        )
    known = (1 - masks.to(images.dtype)).unsqueeze(1)
    covered = known.amax(dim=(1, 2, 3), keepdim=True) == 0
    filled = torch.lerp(_pull_push(images, known), images, known)
    return torch.where(covered, images, filled)


def surroundings(image: Tensor, texture: Tensor | None, mask: Tensor, seed: int) -> Tensor:
    """Return an image in which a concept gives way to its surroundings, as a stylizer that replaces concepts.

    To be named as the ``stylizer`` of :class:`~editable.rewriting.ConceptReplacement`, which gives it all of these.

    Args:
        image: ``[C, H, W]``, in [0, 1].
        texture: not looked at.
        mask: where the concept is, ``[H, W]``, in [0, 1].
        seed: not looked at: nothing is random.
    """
    return fill_from_surroundings(image[None], mask[None])[0]


def _pull_push(colours: Tensor, weights: Tensor) -> Tensor:
    """Return colours where they are known, to a weight [N, 1, h, w], and those of a coarser image elsewhere."""
    if max(weights.shape[-2:]) == 1 or bool((weights >= 1).all()):
        return colours
    height, width = weights.shape[-2:]
    size = (-(-height // 2), -(-width // 2))
    sums, shares = (functional.adaptive_avg_pool2d(values, size) for values in (colours * weights, weights))
    means = sums / shares.clamp_min(torch.finfo(shares.dtype).tiny)
    # One known pixel of the four makes the mean known.
    coarse = _pull_push(means, (4 * shares).clamp_max(1))
    wide = functional.interpolate(coarse, weights.shape[-2:], mode="bilinear", align_corners=False)
    return torch.lerp(wide, colours, weights)
