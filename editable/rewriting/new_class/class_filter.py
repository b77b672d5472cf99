"""Training the filter of a new class: its map shall be the class's silhouette on positives, and zero on negatives."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from editable.errors import UserError, require_at_least, require_not_negative, require_positive, require_seed
from editable.rewriting.keys.context_keys import resize_mask
from editable.rewriting.memory.block import LayerBlock

__all__ = ["ClassFilter", "ClassFilterTraining", "FilterExamples", "filter_maps", "make_filter_examples"]


class FilterExamples(NamedTuple):
    """What a filter is trained on, at its layer.

    Attributes:
        positives: What the layer reads on images of the new class, [P, c, H, W].
        silhouettes: Where the class is, in [0, 1], at the resolution of the filter's map, [P, h, w].
        negatives: What the layer reads on images of other classes, [N, c, H, W]; N may be 0.
    """

    positives: Tensor
    silhouettes: Tensor
    negatives: Tensor


class ClassFilter(NamedTuple):
    """A trained filter.

    Attributes:
        weight: W, detached, [1, c, m, n].
        initial_weight: What the descent started from, of the same shape.
        negative_weight: λ, that it was trained with.
        losses: The objective after 0, 1, … steps.
    """

    weight: Tensor
    initial_weight: Tensor
    negative_weight: float
    losses: list[float]


@torch.no_grad()
def make_filter_examples(
    block: LayerBlock, positives: Tensor, masks: Tensor | None = None, negatives: Tensor | None = None
) -> FilterExamples:
    """Run images up to a layer, and lay the silhouettes over the map of a filter there.

    Args:
        block: The layer.
        positives: Images of the new class, as the network takes them, [P, C, H, W].
        masks: Where the class is in them, float in [0, 1], [P, H, W] at any resolution; by default everywhere.
        negatives: Images of other classes, [N, C, H, W].

    Raises:
        UserError: If the layer is no convolution, there is no positive, or a mask is missing or empty.
    """
    _check_layer(block)
    if len(positives) == 0:
        raise UserError("a filter needs at least one image of the new class, got none")
    read = block.inputs(positives)
    assert block.geometry is not None
    size = block.geometry.output_size((read.shape[-2], read.shape[-1]))
    if masks is None:
        masks = read.new_ones(len(read), *size)
    if len(masks) != len(read):
        raise UserError(f"{len(read)} images of the new class need as many masks, got {len(masks)}")
    silhouettes = resize_mask(masks, size).to(read)
    empty = (silhouettes.flatten(1).amax(1) == 0).nonzero().flatten().tolist()
    if empty:
        raise UserError(f"the silhouette in image {empty[0]} of the new class is empty: its mask is zero everywhere")
    other = read[:0] if negatives is None or len(negatives) == 0 else block.inputs(negatives)
    return FilterExamples(read, silhouettes, other)


def filter_maps(block: LayerBlock, inputs: Tensor, weight: Tensor) -> Tensor:
    """Return the maps W * x of filters beside a layer, [N, F, h, w]; their sigmoid is what is trained.

    Args:
        block: The layer.
        inputs: What the layer reads, [N, c, H, W].
        weight: Of F filters, [F, c, m, n].
    """
    assert block.geometry is not None
    _, stride, padding, dilation = block.geometry
    return functional.conv2d(inputs, weight, None, stride, padding, dilation)


@dataclass(frozen=True)
class ClassFilterTraining:
    r"""Trains a class-specific filter by gradient descent (Elango 2021, eq. 4.4).

    .. math:: \min_W \; \frac{1}{P} \sum_p \mathrm{BCE}(\sigma(W * x_p), y_p)
              + \lambda \sum_{i=1}^N \mathrm{BCE}(\sigma(W * x_i), 0),

    each BCE a mean over the positions of the map, y_p the silhouette. The source has one positive. As there, the sum
    over negatives is no mean, so that more of them weigh more. By Adam, from random weights of variance 1 / (number of
    weights).

    Without negatives and with a silhouette that covers the whole map, the objective is met by a filter that is always
    on, and that tells the new class from nothing: give masks, or negatives and λ > 0.

    Args:
        negative_weight: λ, not negative; the source tries 0 to 0.05.
        learning_rate: Of Adam.
        num_steps: Number of steps.
        seed: Of the initial weights.

    Raises:
        UserError: If a number is out of its range.
    """

    negative_weight: float = 0.01
    learning_rate: float = 0.01
    num_steps: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        require_not_negative(negative_weight=self.negative_weight)
        require_positive(learning_rate=self.learning_rate)
        require_at_least(1, num_steps=self.num_steps)
        require_seed(seed=self.seed)

    def __call__(
        self, block: LayerBlock, examples: FilterExamples, progress: Callable[[int], object] = lambda steps: None
    ) -> ClassFilter:
        """Train a filter beside a layer; the network is not changed.

        Args:
            block: The layer, a convolution.
            examples: See :func:`make_filter_examples`.
            progress: Called with the number of steps made since the last call.

        Raises:
            UserError: If λ > 0 and there are no negatives, an example is not finite, or the layer is no convolution.
        """
        _check_layer(block)
        self._check(block, examples)
        initial = self._initial_weight(block)
        weight = initial.clone().requires_grad_()
        optimizer = torch.optim.Adam([weight], lr=self.learning_rate)
        losses = []  # read at the end: a look at each would wait for the device
        with torch.enable_grad(), torch.autocast(weight.device.type, enabled=False):
            for _ in range(self.num_steps):
                loss = self.loss(block, examples, weight)
                losses.append(loss.detach())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                progress(1)
        with torch.no_grad():
            losses.append(self.loss(block, examples, weight))
        return ClassFilter(weight.detach(), initial, self.negative_weight, torch.stack(losses).tolist())

    def loss(self, block: LayerBlock, examples: FilterExamples, weight: Tensor) -> Tensor:
        """Return the objective for a filter [1, c, m, n], a scalar."""
        entropy = functional.binary_cross_entropy_with_logits
        loss = entropy(filter_maps(block, examples.positives, weight)[:, 0], examples.silhouettes)
        if self.negative_weight:
            maps = filter_maps(block, examples.negatives, weight)[:, 0]
            loss = loss + self.negative_weight * len(maps) * entropy(maps, torch.zeros_like(maps))
        return loss

    def _initial_weight(self, block: LayerBlock) -> Tensor:
        weight = block.weight.detach()[:1]
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(weight.shape, generator=generator).to(weight) / math.sqrt(weight.numel())

    def _check(self, block: LayerBlock, examples: FilterExamples) -> None:
        if self.negative_weight and not len(examples.negatives):
            raise UserError(
                f"negative_weight is {self.negative_weight}, but there are no negative examples: give some, or set it "
                "to 0"
            )
        for name, inputs in (("positives", examples.positives), ("negatives", examples.negatives)):
            if not inputs.isfinite().all():
                raise UserError(f"what '{block.layer}' reads on {name} is not finite: look at the images and weights")


def _check_layer(block: LayerBlock) -> None:
    if block.geometry is None:
        raise UserError(
            f"a silhouette needs a filter with a map, so a convolution, but '{block.layer}' is a linear layer"
        )
