"""A rule for a generator that erases: what a layer draws in a context shall be drawn without its foremost channels."""

from typing import NamedTuple

import torch
from torch import Tensor

from editable.errors import UserError, require_at_least
from editable.rewriting.keys.exemplars import Exemplars
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.keys.selections import Selection, select
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.inverse_moment import InverseMoment
from editable.rewriting.memory.memory import Memory, PixelMemory
from editable.rewriting.memory.second_moment import SecondMoment

__all__ = ["EraseRule", "channel_scores", "erase_problem"]


class EraseRule(NamedTuple):
    """What the layer draws in a context shall not be drawn.

    Attributes:
        context: Images, and the parts of them that show what shall go.
        channels: Number of channels that are taken to draw it.
    """

    context: Selection
    channels: int


def channel_scores(keys: Tensor, weights: Tensor, moment: Tensor) -> Tensor:
    r"""Return how much each entry of a key stands out in a context, against all positions of all images.

    .. math:: \frac{\sum_p w_p k_p^2 / \sum_p w_p}{E[k^2]}

    1 means that it is as strong there as elsewhere. (Bau et al. 2020.)

    Args:
        keys: Of the context's images, [n, c, P].
        weights: The context's masks on the map of keys, [n, P].
        moment: C = E[k kᵀ], [c, c].

    Returns:
        [c]; 0 for entries that are always zero.
    """
    inside = torch.einsum("ncp,np->c", keys.square(), weights) / weights.sum()
    usual = moment.diagonal()
    return torch.where(usual > 0, inside / usual.clamp(min=torch.finfo(usual.dtype).tiny), 0.0)


@torch.no_grad()
def erase_problem(
    block: LayerBlock,
    memory: Memory,
    rule: EraseRule,
    moment: SecondMoment,
    inverse: InverseMoment,
    rank: int = 1,
) -> RewriteProblem:
    """Turn a rule that erases into a rewrite problem.

    The channels of the layer's input with the highest :func:`channel_scores` in the context are set to zero inside its
    masks, in border cells in proportion; what the block makes of that is the target.

    Args:
        block: The layer, a convolution.
        memory: Of the layer; one of single pixels, whose keys are channels.
        rule: What shall go.
        moment: The second moment of the layer's keys.
        inverse: Of the same.
        rank: Number of directions of the keys' space that a descent may change the weight along.

    Raises:
        UserError: If the layer is linear or its memory is one of patches, latent vectors or masks are of another size
            than the generator's, a mask is empty, or numbers are out of their range.
    """
    if not isinstance(memory, PixelMemory):
        raise UserError("channels are erased with keys that are pixels: choose the architecture 'pixel'")
    require_at_least(1, channels=rule.channels)
    if rule.channels > memory.key_size:
        raise UserError(f"'{block.layer}' reads {memory.key_size} channels, so {rule.channels} cannot be erased")
    context = select(block, memory, rule.context, "context")
    scores = channel_scores(context.keys, context.key_weights, moment.mean.to(context.keys))
    foremost = scores.argsort(descending=True, stable=True)[: rule.channels]
    inputs = context.inputs
    kept = 1 - context.key_weights.to(inputs).unflatten(1, inputs.shape[-2:])
    target_inputs = inputs.clone()
    target_inputs[:, foremost] *= kept[:, None]
    exemplars = Exemplars(inputs, target_inputs, rule.context.masks.to(inputs))
    return RewriteProblem(block, memory, exemplars, inverse, rank)
