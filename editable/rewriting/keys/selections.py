"""Parts of generated images that a user has marked: latent vectors, each with a mask on its image."""

from typing import NamedTuple

import torch
from torch import Tensor

from editable.errors import UserError
from editable.models import generate
from editable.rewriting.keys.context_keys import resize_mask
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.memory import Memory

__all__ = ["Selection", "select"]


class Selection(NamedTuple):
    """Where n generated images show something.

    Attributes:
        latents: Latent vectors of the images, [n, …].
        masks: Where, float in [0, 1], in the size of the images, [n, H, W].
    """

    latents: Tensor
    masks: Tensor


class SelectedFeatures(NamedTuple):
    """What a layer reads of a selection's images.

    Attributes:
        inputs: The layer's inputs, [n, c, H, W].
        keys: Their keys, float64 [n, key_size, P].
        key_weights: The masks on the map of keys, float64 [n, P].
        values: The block's output, [n, f, H', W'].
        value_masks: The masks on the block's output, [n, H', W'].
        images: The generated images.
    """

    inputs: Tensor
    keys: Tensor
    key_weights: Tensor
    values: Tensor
    value_masks: Tensor
    images: Tensor


@torch.no_grad()
def select(block: LayerBlock, memory: Memory, selection: Selection, name: str) -> SelectedFeatures:
    """Run the generator on a selection.

    Args:
        block: The layer, a convolution.
        memory: Of the layer.
        selection: Latent vectors and masks.
        name: What is selected, for messages: ``context``.

    Raises:
        UserError: If the layer is linear, a latent vector or mask is of another size than the generator's, or a mask
            is empty.
    """
    latents, masks = selection
    if block.geometry is None:
        raise UserError(f"'{block.layer}' is a linear layer, whose features have no positions: name a convolution")
    if not len(latents) or len(latents) != len(masks):
        raise UserError(
            f"the {name} needs at least one latent vector and a mask for each, got {len(latents)} and {len(masks)}"
        )
    images = generate(block.network, latents)
    expected = [len(images), *images.shape[-2:]]
    if list(masks.shape) != expected:
        raise UserError(
            f"the masks of the {name} must be as large as the generated images, {expected}, got {list(masks.shape)}"
        )
    empty = [index for index, mask in enumerate(masks) if not mask.any()]
    if empty:
        raise UserError(f"the mask of image {empty[0]} of the {name} (counted from 0) is empty: mark a part of it")
    inputs = block.inputs(latents.to(block.weight))
    values = block.values(inputs)
    masks = masks.to(inputs)
    key_map = memory.key_map_size((inputs.shape[-2], inputs.shape[-1]))
    return SelectedFeatures(
        inputs,
        memory.keys(inputs).double(),
        resize_mask(masks, key_map).flatten(1).double(),
        values,
        resize_mask(masks, (values.shape[-2], values.shape[-1])),
        images,
    )
