"""Context matching: where the images of a data set hold what the directions of a rule respond to."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from editable.errors import UserError, require_within
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.image_batches import images_of
from editable.rewriting.memory.memory import Memory

__all__ = ["ContextMatches", "match_context"]


class ContextMatches(NamedTuple):
    """How strongly the keys of N images respond to the directions of a rule, and where.

    Attributes:
        heat_maps: The response at each position of the map of keys, on the CPU, [N, h, w]; of a linear layer
            [N, 1, P], P the number of vectors in each input.
        maxima: The largest response in each image, [N].
        ranking: Numbers of the images in the stream, by falling maximum, equal ones in order, int64 [N].
        thresholds: The quantiles that were asked for, of all responses at all positions of all images.
        image_size: Height and width of the images; none of a linear layer, whose vectors have no place in an image.
    """

    heat_maps: Tensor
    maxima: Tensor
    ranking: Tensor
    thresholds: dict[float, float]
    image_size: tuple[int, int] | None

    def upsampled(self, images: Sequence[int] | Tensor | slice = slice(None)) -> Tensor:
        """Return heat maps in the size of the images, bilinearly interpolated.

        Args:
            images: Numbers of the n images that are wanted, such as ``ranking[:n]``; all by default.

        Returns:
            [n, H, W].

        Raises:
            UserError: If the layer is a linear one.
        """
        if self.image_size is None:
            raise UserError("the vectors that a linear layer reads have no place in an image: choose a convolution")
        chosen = self.heat_maps[images if isinstance(images, slice) else torch.as_tensor(images)]
        return functional.interpolate(chosen[:, None], self.image_size, mode="bilinear", align_corners=False)[:, 0]

    def masks(self, quantile: float, images: Sequence[int] | Tensor | slice = slice(None)) -> Tensor:
        """Return where upsampled heat maps reach a quantile of all responses: masks of 0 and 1, floating [n, H, W].

        Args:
            quantile: One of those that were asked for.
            images: As of :meth:`upsampled`.

        Raises:
            UserError: If the quantile is another, or the layer is a linear one.
        """
        if quantile not in self.thresholds:
            known = ", ".join(f"{known:g}" for known in self.thresholds)
            raise UserError(f"no threshold was computed for the quantile {quantile:g}, only for {known or 'none'}")
        heat = self.upsampled(images)
        return (heat >= self.thresholds[quantile]).to(heat.dtype)


@torch.no_grad()
def match_context(
    block: LayerBlock,
    memory: Memory,
    directions: Tensor,
    batches: Iterable[Any],
    quantiles: Sequence[float] = (0.99, 0.999),
    key: Tensor | None = None,
    progress: Callable[[int], object] = lambda images: None,
) -> ContextMatches:
    r"""Look where the keys of images respond to the directions of a rule.

    The response of a key k to one direction is ⟨d, k⟩. Of several directions it is the response to that one in their
    span which the concept's own key k* responds to most,

    .. math:: d = \frac{D D^\top k^*}{\lVert D D^\top k^* \rVert},

    which does not depend on the basis, keeps a sign, and for a single direction is the same. Where the concept's key is
    not given, it is the length of the positive projections, (Σᵢ max(0, ⟨dᵢ, k⟩)²)^½, which is also large where keys
    vary for other reasons than the concept.

    Of the network only what leads to the layer is run. Quantiles are exact, interpolated linearly between neighbouring
    values; for this, the heat maps of all images are kept, in the type of the keys: 4 bytes for each position.

    Args:
        block: The layer.
        memory: Of the layer; its keys are looked at.
        directions: D, columns [c, r], such as :attr:`editable.rewriting.Directions.vectors`.
        batches: Images [N, C, H, W] of one size, or tuples that begin with them; they are moved to the network's
            device.
        quantiles: Of all responses, each between 0 and 1.
        key: k*, such as :func:`editable.rewriting.mean_key` of the exemplars, [c, 1]; of several columns, the sum.
        progress: Called with the number of images done since the last call.

    Raises:
        UserError: If directions, key or quantiles are unfit, there is no image, images differ in size, or keys are NaN
            or infinite.
    """
    require_within("[0, 1]", quantiles=quantiles)
    directions = _response_directions(directions, key, memory.key_size)
    maps: list[Tensor] = []
    sizes: set[tuple[int, int] | None] = set()
    for batch in batches:
        images = images_of(batch, block.weight.device)
        inputs = block.inputs(images)
        heat = _responses(memory.keys(inputs), directions)
        if not heat.isfinite().all():
            number = sum(map(len, maps)) + int((~heat.isfinite()).any(dim=1).nonzero()[0])
            raise UserError(f"keys of '{block.layer}' must be finite, but those of image {number} are NaN or infinite")
        sizes.add(None if block.geometry is None else (images.shape[-2], images.shape[-1]))
        if len(sizes) > 1:
            raise UserError(f"context is matched in images of one size, got {' and '.join(map(str, sizes))}")
        maps.append(heat.unflatten(1, _map_size(memory, inputs, heat)).cpu())
        progress(len(images))
    if not maps:
        raise UserError(f"no image was given to match the context of '{block.layer}' in")
    return _summarise(torch.cat(maps), quantiles, sizes.pop())


def _response_directions(directions: Tensor, key: Tensor | None, key_size: int) -> Tensor:
    """Return the directions, or the one in their span that a key responds to most, [c, r] or [c, 1]."""
    for name, columns in (("directions", directions), ("the concept's key", key)):
        if columns is None:
            continue
        if columns.ndim != 2 or len(columns) != key_size or not columns.shape[1]:
            raise UserError(f"{name} must be columns [{key_size}, r], got shape {list(columns.shape)}")
        if not columns.isfinite().all():
            raise UserError(f"{name} must be finite, got NaN or infinite values")
    if key is None:
        return directions
    nearest = directions @ (directions.T @ key.to(directions).sum(dim=1, keepdim=True))
    if not nearest.any():
        raise UserError("the directions do not respond to the concept's key: is it the key that they were made from?")
    return nearest / nearest.norm()


def _responses(keys: Tensor, directions: Tensor) -> Tensor:
    """Return the responses of keys [N, c, P] to directions [c, r], as [N, P]."""
    projections = directions.to(keys).T @ keys
    return projections[:, 0] if directions.shape[1] == 1 else projections.clamp(min=0).norm(dim=1)


def _map_size(memory: Memory, inputs: Tensor, heat: Tensor) -> tuple[int, int]:
    if memory.geometry is None:
        return 1, heat.shape[1]
    return memory.key_map_size((inputs.shape[-2], inputs.shape[-1]))


def _summarise(heat_maps: Tensor, quantiles: Sequence[float], image_size: tuple[int, int] | None) -> ContextMatches:
    maxima = heat_maps.flatten(1).amax(dim=1)
    values = np.quantile(heat_maps.double().numpy(), list(quantiles)) if len(quantiles) else []
    return ContextMatches(
        heat_maps=heat_maps,
        maxima=maxima,
        ranking=maxima.argsort(descending=True, stable=True),
        thresholds={float(quantile): float(value) for quantile, value in zip(quantiles, values, strict=True)},
        image_size=image_size,
    )
