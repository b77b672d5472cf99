"""What a rewrite is asked for: exemplars of a rule, at one layer of a network, as keys, values and directions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.func import functional_call

from editable.errors import UserError, require_at_least
from editable.models import evaluation_mode, logits_of
from editable.rewriting.keys.context_keys import key_directions, mean_key, resize_mask, span_directions
from editable.rewriting.keys.exemplars import Exemplars
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.inverse_moment import InverseMoment
from editable.rewriting.memory.memory import Memory

__all__ = ["RewriteProblem"]


@dataclass(frozen=True)
class RewriteProblem:
    """A rewrite of one layer: where it sees the keys K*, it shall recall the values V* = W₀ K of other keys K.

    Keys are means over the concept's positions, weighted by the mask, one for each rule. A mask is laid over the map of
    keys, and over the block's output, by the area that it covers. In linear layers all vectors of an exemplar count.

    Args:
        block: The layer, with BatchNorm and activation.
        memory: The layer's weight as a memory.
        exemplars: At this layer.
        inverse: Of the second moment of the layer's keys.
        rank: Number of directions of the keys' space that a descent may change W along.
        images: The exemplars' images where the concept is seen, as the network takes them, for fine-tuning.
        labels: Their true labels, int64 [n].
        reference_images: Images on which a network that is trained as a whole shall stay as it is.
        originals: The exemplars' images without the concept, in the same order, for a fit of several layers.

    Raises:
        UserError: If shapes do not fit, the mask is empty, features are not finite, or the rank is out of its range.
    """

    block: LayerBlock
    memory: Memory
    exemplars: Exemplars
    inverse: InverseMoment
    rank: int = 1
    images: Tensor | None = None
    labels: Tensor | None = None
    reference_images: Tensor | None = None
    originals: Tensor | None = None
    weight: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check what is given, before anything is computed."""
        inputs, target_inputs, mask, rules = self.exemplars
        if inputs.shape != target_inputs.shape or len(inputs) == 0:
            raise UserError(
                "exemplars need inputs and target inputs of one shape, and at least one of them, got "
                f"{list(inputs.shape)} and {list(target_inputs.shape)}"
            )
        if mask.ndim != 3 or len(mask) != len(inputs):
            raise UserError(f"{len(inputs)} exemplars need masks [{len(inputs)}, h, w], got {list(mask.shape)}")
        if rules is not None and rules.unique().tolist() != list(range(int(rules.max()) + 1)):
            raise UserError(f"rules are numbered from 0 without gaps, got {rules.tolist()}")
        for name, features in (("inputs", inputs), ("target inputs", target_inputs)):
            if not features.isfinite().all():
                raise UserError(
                    f"the {name} of '{self.block.layer}' are not finite: look at the images and the weights before it"
                )
        require_at_least(1, rank=self.rank)
        if self.rank > self.memory.key_size:
            size = self.memory.key_size
            raise UserError(f"rank is {self.rank}, but keys of '{self.block.layer}' have only {size} entries")
        object.__setattr__(self, "weight", self.block.weight.detach())

    @cached_property
    def keys(self) -> Tensor:
        """K*, the mean key of the concept for each rule, float64 [key_size, S]."""
        return self._mean_keys(self.exemplars.inputs)

    @cached_property
    def target_keys(self) -> Tensor:
        """The mean key of what the concept shall be taken for, float64 [key_size, S]."""
        return self._mean_keys(self.exemplars.target_inputs)

    @cached_property
    def matrix(self) -> Tensor:
        """W₀, float64 [value_size, key_size]."""
        return self.memory.matrix(self.weight.double())

    @cached_property
    def values(self) -> Tensor:
        """V* = W₀ K, what the layer shall recall, float64 [value_size, S]."""
        return self.matrix @ self.target_keys

    @cached_property
    def directions(self) -> Tensor:
        """D, an orthonormal basis of the directions that the rule may change, float64 [key_size, rank or S].

        The span of C⁻¹K*; for more directions than there are rules, those of the single keys of all positions.
        """
        if self.rank <= self.num_rules:
            return span_directions(self.keys, self.inverse).vectors
        keys = self.memory.keys(self.exemplars.inputs).double()
        return key_directions(keys, self.key_weights.double(), self.inverse, self.rank).vectors

    @cached_property
    def key_weights(self) -> Tensor:
        """How much each key of an exemplar belongs to the concept, [n, P]."""
        inputs, _, mask, _ = self.exemplars
        if self.block.geometry is None:
            return mask.new_ones(len(inputs), self.memory.keys(inputs).shape[-1])
        size = self.memory.key_map_size((inputs.shape[-2], inputs.shape[-1]))
        return resize_mask(mask, size).flatten(1)

    @cached_property
    def value_mask(self) -> Tensor:
        """How much each position of the block's output belongs to the concept, [n, H', W']; linear: [n, …]."""
        targets = self.targets
        if self.block.geometry is None:
            return targets.new_ones(targets.shape[:-1])
        return resize_mask(self.exemplars.mask, (targets.shape[-2], targets.shape[-1])).to(targets)

    @cached_property
    def targets(self) -> Tensor:
        """The block's output that is wanted, [n, f, H', W']; of a linear layer [n, …, f]."""
        with torch.no_grad():
            return self.block.values(self.exemplars.target_inputs)

    @property
    def num_rules(self) -> int:
        """Number of rules S."""
        rules = self.exemplars.rules
        return 1 if rules is None else int(rules.max()) + 1

    def loss(self, weight: Tensor) -> Tensor:
        """Return the mean absolute difference from the targets inside the mask, differentiable in the weight."""
        return self.distance(self.block.values(self.exemplars.inputs, weight))

    def distance(self, values: Tensor) -> Tensor:
        """Return the mean absolute difference of the block's output from the targets, weighted by the mask."""
        channels = -1 if self.block.geometry is None else 1
        differences = (values - self.targets).abs().mean(dim=channels)
        return (differences * self.value_mask).sum() / self.value_mask.sum()

    def logits(self, images: Tensor, params: Mapping[str, Tensor]) -> Tensor:
        """Run the network in evaluation mode with other parameters; nothing is written to it."""
        with evaluation_mode(self.block.network):
            return logits_of(functional_call(self.block.network, dict(params), (images,)))

    def _mean_keys(self, inputs: Tensor) -> Tensor:
        keys, weights = self.memory.keys(inputs).double(), self.key_weights.double()
        rules = self.exemplars.rules
        if rules is None:
            return mean_key(keys, weights)
        return torch.cat([mean_key(keys[rules == rule], weights[rules == rule]) for rule in range(self.num_rules)], 1)
