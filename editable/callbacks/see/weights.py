"""The weight of one layer out of the file of a rewritten network, if it may be compared with the network at hand."""

import copy

import torch
from torch import Tensor

from editable.errors import UserError
from editable.models import load_weights
from editable.rewriting import LayerBlock

__all__ = ["read_edited_weight", "takes_part"]


def read_edited_weight(block: LayerBlock, path: str) -> Tensor:
    """Return a layer's weight out of the weights of a network that was rewritten.

    Args:
        block: The layer in the network before.
        path: As of :func:`editable.models.load_weights`.

    Returns:
        In the type and on the device of the layer's weight.

    Raises:
        UserError: If the file cannot be read or does not fit the network, the layer's weight is as before, or something
            before the layer, or in the rest of its block, is another.
    """
    edited = copy.deepcopy(block.network)
    load_weights(edited, path)
    before, after = block.network.state_dict(), edited.state_dict()
    others = [
        name for name, tensor in before.items() if takes_part(block, name) and not torch.equal(tensor, after[name])
    ]
    if others:
        raise UserError(
            f"'{path}' differs from the network at hand in {len(others)} tensors before '{block.layer}' or in its "
            f"block, such as '{others[0]}': give the network that was rewritten as model.weights or ckpt_path, and a "
            "rewrite of this layer"
        )
    weight = after[block.weight_name]
    if torch.equal(weight, before[block.weight_name]):
        raise UserError(
            f"the weight of '{block.layer}' in '{path}' is that of the network at hand: nothing was rewritten"
        )
    return weight


def takes_part(block: LayerBlock, name: str) -> bool:
    """Return whether what a block gives depends on a parameter or buffer, other than the layer's weight."""
    if name == block.weight_name:
        return False
    return name in block.upstream_state or name.rpartition(".")[0] in block.stages
