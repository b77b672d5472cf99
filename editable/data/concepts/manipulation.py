"""Putting a new concept where an old one is: a texture or another image inside a mask."""

from math import ceil
from typing import Literal

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from editable.errors import UserError, require_seed, require_side

__all__ = ["Blend", "fit_texture", "paste_image", "paste_texture", "shade"]

Blend = Literal["paste", "shading"]
"""``paste``: the texture as it is; ``shading``: the texture lit as the region that it covers, see :func:`shade`."""

FULL_LIGHT = 0.9
"""The quantile of a region's brightness that counts as full light: a higher one would follow highlights."""


def fit_texture(texture: Tensor, size: tuple[int, int], seed: int) -> Tensor:
    """Fill an image with a texture: a random part of a larger texture, a smaller one tiled from a random corner.

    Each side is treated by itself: one that is long enough is cut, without a seam; one that is too short is repeated.

    Args:
        texture: ``[C, h, w]``.
        size: height H and width W to fill.
        seed: seed of the corner, ≥ 0.

    Returns:
        The texture, ``[C, H, W]``; the pixels are those of the texture, not interpolated.

    Raises:
        UserError: the texture is not ``[C, h, w]``, or the seed is negative.
    """
    require_side(height=size[0], width=size[1])
    require_seed(seed=seed)
    if texture.ndim != 3 or texture.numel() == 0:
        raise UserError(f"a texture must be an image [C, h, w], got shape {list(texture.shape)}.")
    generator = torch.Generator().manual_seed(seed)
    for dim, wanted in ((1, size[0]), (2, size[1])):
        length = texture.shape[dim]
        corners = length - wanted + 1 if length >= wanted else length
        corner = int(torch.randint(corners, (), generator=generator))
        positions = (corner + torch.arange(wanted)) % length
        texture = texture.index_select(dim, positions.to(texture.device))
    return texture


def paste_image(image: Tensor, pasted: Tensor, mask: Tensor) -> Tensor:
    """Return the image with another one inside a mask: mask · pasted + (1 − mask) · image.

    Where the mask is 0 the image's pixels stay exactly as they are; where it is 1 they are exactly the pasted ones.

    Args:
        image: floats in [0, 1], ``[..., C, H, W]``.
        pasted: as ``image``, of the same size.
        mask: floats in [0, 1], ``[..., H, W]``.

    Returns:
        The manipulated image, ``[..., C, H, W]``, in the image's dtype.

    Raises:
        UserError: sizes differ, or something is not float or, for the mask, out of [0, 1].
    """
    _demand_floats(image=image, pasted=pasted, mask=mask)
    _demand_size(image, mask)
    if pasted.shape[-3:] != image.shape[-3:]:
        raise UserError(
            f"what is pasted must be as large as the image, {list(image.shape[-3:])}, got {list(pasted.shape[-3:])}."
        )
    return torch.lerp(image, pasted.to(image.dtype), mask.to(image.dtype).unsqueeze(-3))


def paste_texture(image: Tensor, texture: Tensor, mask: Tensor, seed: int, blend: Blend = "paste") -> Tensor:
    """Return the image with a texture inside a mask.

    Args:
        image: floats in [0, 1], ``[C, H, W]``.
        texture: floats in [0, 1], ``[C, h, w]`` of any size; :func:`fit_texture` brings it to the image's.
        mask: floats in [0, 1], ``[H, W]``.
        seed: seed of the texture's corner, ≥ 0.
        blend: whether the texture is pasted as it is, or shaded as the region was.

    Returns:
        The manipulated image, ``[C, H, W]``.

    Raises:
        UserError: sizes differ, something is not float, the mask is out of [0, 1] or, for shading, empty.
    """
    fitted = fit_texture(texture, (image.shape[-2], image.shape[-1]), seed)
    if blend == "shading":
        fitted = shade(fitted, image, mask)
    return paste_image(image, fitted, mask)


def shade(texture: Tensor, image: Tensor, mask: Tensor, sigma: float | None = None) -> Tensor:
    """Light a texture as the masked region of an image is lit, so that its shadows and its relief stay.

    The gain at x is ℓ(x) / ℓ*: ℓ is the image's luminance L (Rec. 601), averaged by a Gaussian over the masked
    surroundings, Σ G·m·L / Σ G·m, and ℓ* is its 0.9-quantile inside the mask. So the texture keeps its brightness where
    the region is in full light, and darkens where that lies in shadow; what lies outside of the mask has no influence.
    (A gain relative to the mean would drive bright textures, such as snow, out of range.) A gain on gamma-encoded
    values is one on light too, since (a·b)^(1/γ) = a^(1/γ) · b^(1/γ).

    Args:
        texture: floats in [0, 1], ``[3, H, W]``.
        image: floats in [0, 1], ``[3, H, W]``.
        mask: floats in [0, 1], ``[H, W]``, not all 0.
        sigma: standard deviation of the Gaussian, in pixels: how coarse a change of brightness must be to count as
            light, not as the old texture; 0 takes the luminance pixel by pixel; by default a sixteenth of the image's
            shorter side.

    Returns:
        texture · gain, cut to [0, 1]; outside of the mask the texture as it is. A region that is black says nothing
        about light: the gain is 1.

    Raises:
        UserError: sizes differ, the mask is empty, something is not float, or sigma is out of range.
    """
    _demand_floats(texture=texture, image=image, mask=mask)
    _demand_size(image, mask)
    shorter_side = min(image.shape[-2:])
    sigma = shorter_side / 16 if sigma is None else sigma
    if not 0 <= sigma <= (shorter_side - 1) / 3:
        raise UserError(
            f"sigma is {sigma:g} pixels, but must be from 0 to a third of the image's shorter side, which is "
            f"{shorter_side}."
        )
    weight = mask.double().unsqueeze(0)
    if not weight.any():
        raise UserError("the mask is empty: no region to take the shading from.")
    luminance = functional.rgb_to_grayscale(image.double())
    local = _blur(weight * luminance, sigma) / _blur(weight, sigma).clamp_min(torch.finfo(torch.float64).tiny)
    full_light = _quantile(local, weight, FULL_LIGHT)
    if full_light == 0:
        return texture
    gain = torch.where(weight > 0, local / full_light, 1.0)
    return (texture * gain).clamp(0, 1).to(texture.dtype)


def _quantile(values: Tensor, weights: Tensor, share: float) -> Tensor:
    """Return the smallest value that, with all below it, has the share of the weight."""
    order = values.flatten().argsort()
    reached = weights.flatten()[order].cumsum(0)
    return values.flatten()[order][torch.searchsorted(reached, share * reached[-1])]


def _blur(values: Tensor, sigma: float) -> Tensor:
    if sigma == 0:
        return values
    length = 2 * ceil(3 * sigma) + 1
    for kernel in ([length, 1], [1, length]):  # one after the other: a square kernel takes gigabytes
        values = functional.gaussian_blur(values, kernel, [sigma] * 2)
    return values


def _demand_floats(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise UserError(
                f"{name} must be floats from 0 to 1, got {tensor.dtype}: whole numbers are on a scale of their own."
            )


def _demand_size(image: Tensor, mask: Tensor) -> None:
    if mask.shape[-2:] != image.shape[-2:]:
        raise UserError(
            f"the mask is {mask.shape[-2]}×{mask.shape[-1]} pixels (height × width), but must be as large as the "
            f"image, {image.shape[-2]}×{image.shape[-1]}."
        )
    if not ((mask >= 0) & (mask <= 1)).all():
        raise UserError(f"the mask's values must be from 0 to 1, got {mask.min().item():g} to {mask.max().item():g}.")
