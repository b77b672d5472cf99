"""Exemplars of a rule at a layer: from images that show the new concept, or by putting its features in place."""

from typing import NamedTuple

import torch
from torch import Tensor

from editable.errors import UserError
from editable.rewriting.keys.context_keys import resize_mask
from editable.rewriting.memory.block import LayerBlock

__all__ = ["Exemplars", "exemplars_from_features", "exemplars_from_images"]

IMAGES_AT_ONCE = 16  # what lies before a layer can be large


class Exemplars(NamedTuple):
    """Where a layer sees one concept and shall behave as it does for another.

    Attributes:
        inputs: The layer's inputs where it sees the concept, [n, c, H, W]; of a linear layer [n, …, c].
        target_inputs: Its inputs on the same exemplars with the concept that it shall take it for, of the same shape.
        mask: Where the concept is, float in [0, 1], [n, h, w] at any resolution: that of the images, or of a map.
        rules: The rule that each exemplar belongs to, int64 [n], numbered from 0; all the same by default.
    """

    inputs: Tensor
    target_inputs: Tensor
    mask: Tensor
    rules: Tensor | None = None


@torch.no_grad()
def exemplars_from_images(
    block: LayerBlock, originals: Tensor, manipulated: Tensor, mask: Tensor, rules: Tensor | None = None
) -> Exemplars:
    """Make exemplars by the images route: the keys are what the layer reads of the manipulated images.

    Args:
        block: The layer.
        originals: Images that show the concept which the new one shall be taken for, as the network takes them,
            [n, C, H, W].
        manipulated: The same images with the new concept in its place.
        mask: Where it is, float in [0, 1], [n, H, W].
        rules: The rule that each exemplar belongs to, see :class:`Exemplars`.

    Raises:
        UserError: If shapes do not fit.

    Source: Santurkar et al. 2021, "Editing a classifier by rewriting its prediction rules".
    """
    _check(originals, manipulated, mask)
    return Exemplars(_inputs(block, manipulated), _inputs(block, originals), mask, rules)


@torch.no_grad()
def exemplars_from_features(
    block: LayerBlock, originals: Tensor, variants: Tensor, mask: Tensor, rules: Tensor | None = None
) -> Exemplars:
    """Make exemplars by the features route: what the layer reads of variants is put on the concept's positions.

    No manipulated image is needed; in a mask's border cells both are mixed by area. With a mask over the whole image
    the keys are those of the variants.

    Args:
        block: The layer, a convolution.
        originals: Images that show the concept which the new one shall be taken for, as the network takes them,
            [n, C, H, W].
        variants: Images of the new concept, [n, C, H, W], or one for all, [1, C, H, W].
        mask: Where it shall be, float in [0, 1], [n, H, W].
        rules: The rule that each exemplar belongs to, see :class:`Exemplars`.

    Raises:
        UserError: If shapes do not fit, or the layer is linear: its features have no positions.

    Source: Elango 2021, ch. 2 ("editing with features").
    """
    variants = variants.expand_as(originals) if len(variants) == 1 else variants
    _check(originals, variants, mask)
    if block.geometry is None:
        raise UserError(
            f"the features route puts features on positions, but '{block.layer}' is a linear layer: take the images "
            "route, or a convolution"
        )
    target_inputs, features = _inputs(block, originals), _inputs(block, variants)
    share = resize_mask(mask, (features.shape[-2], features.shape[-1])).to(features).unsqueeze(1)
    return Exemplars(torch.lerp(target_inputs, features, share), target_inputs, mask, rules)


def _inputs(block: LayerBlock, images: Tensor) -> Tensor:
    return torch.cat([block.inputs(some) for some in images.split(IMAGES_AT_ONCE)])


def _check(originals: Tensor, others: Tensor, mask: Tensor) -> None:
    if originals.shape != others.shape or originals.ndim != 4:
        raise UserError(
            "originals and what takes their place must be images of one shape [n, C, H, W], got "
            f"{list(originals.shape)} and {list(others.shape)}"
        )
    expected = [len(originals), *originals.shape[-2:]]
    if list(mask.shape) != expected:
        raise UserError(f"the masks of these images must be {expected}, got {list(mask.shape)}")
