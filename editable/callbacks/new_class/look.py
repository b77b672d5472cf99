"""A look at images through a network and new filters beside a layer of it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from editable.models import GrownNetwork, Pooling, evaluation_mode, grow_classes
from editable.models.added.new_logit import NewDiscriminant
from editable.models.added.tapping import tapping
from editable.models.machine.devices import to_device
from editable.rewriting import LayerBlock, make_memory
from editable.rewriting.new_class.class_discriminant import Discriminant
from editable.rewriting.new_class.final_features import FinalFeatures

__all__ = [
    "Look",
    "NewLogitScores",
    "classifier_of",
    "grow_with",
    "grow_with_discriminant",
    "look_at",
    "pooled_keys",
]


class NewLogitScores(NamedTuple):
    """What a method makes of images; tensors on the CPU.

    Attributes:
        pooled: The new class's logit q before it is scaled and shifted, [N].
        old_logits: [N, K].
        labels: Old classes 0 … K − 1, the new one K, int64 [N].
    """

    pooled: Tensor
    old_logits: Tensor
    labels: Tensor


class Look(NamedTuple):
    """What a network makes of a data set; tensors on the CPU.

    Attributes:
        labels: int64 [N].
        old_logits: [N, K].
        pooled: The pooled maps of F filters, [N, F].
        features: What the last linear layer reads, [N, d]; none where that was not asked for.
        keys: What the filters' layer reads, its patches pooled to their mean, [N, c·m·n]; likewise.
    """

    labels: Tensor
    old_logits: Tensor
    pooled: Tensor
    features: Tensor | None
    keys: Tensor | None = None

    def of_filter(self, number: int) -> NewLogitScores:
        """Return the scores of one of the filters."""
        return NewLogitScores(self.pooled[:, number], self.old_logits, self.labels)

    def of_vector(self, vector: Tensor) -> NewLogitScores:
        """Return the scores of a vector [d] of weights of the last layer."""
        assert self.features is not None, "features were not asked for"
        return NewLogitScores(self.features.double() @ vector, self.old_logits, self.labels)

    def of_discriminant(self, made: Discriminant, keys: Tensor) -> NewLogitScores:
        """Return the scores of discriminants of features or keys: log odds, against log probabilities of old classes.

        Old logits less the logarithm of their summed exponentials: the grown network adds that to the new one instead.
        """
        return NewLogitScores(made.odds(keys), self.old_logits.double().log_softmax(dim=1), self.labels)


@torch.no_grad()
def grow_with(
    network: nn.Module, layer: str, weights: Sequence[Tensor], pooling: Pooling, scale: float = 1.0, bias: float = 0.0
) -> GrownNetwork:
    """Grow a network by a new class for each filter [1, c, m, n], with its logit scaled and shifted."""
    grown = grow_classes(network, layer, len(weights), pooling)
    for new, weight in zip(list(grown.new_logits)[-len(weights) :], weights, strict=True):
        new.filter.weight.copy_(weight)  # type: ignore[union-attr, operator]
        new.scale.fill_(scale)  # type: ignore[operator]
        new.bias.fill_(bias)  # type: ignore[operator]
    return grown


@torch.no_grad()
def grow_with_discriminant(network: nn.Module, layer: str, made: Discriminant, bias: float) -> GrownNetwork:
    """Grow a network by a new class with discriminants at a layer, its log odds shifted."""
    grown = grow_classes(network, layer, logit="discriminant")
    new = grown.new_logits[-1]
    assert isinstance(new, NewDiscriminant)
    new.discriminants.weight.copy_(made.weight.view_as(new.discriminants.weight))
    assert new.discriminants.bias is not None
    new.discriminants.bias.copy_(made.bias)
    new.bias.fill_(bias)
    return grown


@torch.no_grad()
def pooled_keys(block: LayerBlock, inputs: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean patch under a convolution's kernel in each image, [N, c·m·n].

    Args:
        block: The convolution.
        inputs: What it reads, [N, c, H, W].
        weights: Of positions of its output, not negative, [N, h, w]; by default all the same.
    """
    keys = make_memory(tuple(block.weight.shape), block.geometry, "patch").keys(inputs)
    if weights is None:
        return keys.mean(dim=2)
    shares = weights.flatten(1) / weights.flatten(1).sum(dim=1, keepdim=True)
    return torch.einsum("ndp,np->nd", keys, shares.to(keys))


@torch.no_grad()
def look_at(
    network: nn.Module,
    layer: str,
    filters: Sequence[Tensor],
    pooling: Pooling,
    loader: DataLoader,
    with_features: bool,
    device: torch.device,
    progress: Callable[[int], object] = lambda images: None,
    with_keys: bool = False,
) -> Look:
    """Run a data set through a network and filters beside a layer of it.

    Args:
        network: The classifier, grown or not.
        layer: Where the filters stand.
        filters: Weights, each [1, c, m, n].
        pooling: How maps become logits.
        loader: Batches of images and labels.
        with_features: Also return what the last linear layer reads.
        device: Where the network is.
        progress: Called with the number of images done since the last call.
        with_keys: Also return what the filters' layer reads.

    Raises:
        UserError: If features are asked for, but the network's last layer is not linear.
    """
    whole = grow_with(network, layer, filters, pooling) if filters else network
    classifier = classifier_of(network)
    final = FinalFeatures(classifier, whole)
    taps = [(classifier.get_submodule(layer), _PooledKeys(LayerBlock(classifier, layer)))] if with_keys else []
    parts: list[tuple[Tensor, ...]] = []
    with evaluation_mode(whole):
        for images, labels in loader:
            images = to_device(images, device)
            with tapping(taps) as tapped:
                outputs = final(images) if with_features else (whole(images),)
            read = [found[0] for found in tapped]
            parts.append((labels, *(output.cpu() for output in (*outputs, *read))))
            progress(len(images))
    labels, logits, *others = (torch.cat(column) for column in zip(*parts, strict=True))
    num_old = logits.shape[1] - len(filters)
    keys = others.pop() if with_keys else None
    return Look(labels, logits[:, :num_old], logits[:, num_old:], others[0] if others else None, keys)


def classifier_of(network: nn.Module) -> nn.Module:
    """Return the classifier that a network was grown from, or itself."""
    return network.base if isinstance(network, GrownNetwork) else network


class _PooledKeys(nn.Module):
    """Pools what goes into a layer."""

    def __init__(self, block: LayerBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, inputs: Tensor) -> Tensor:
        return pooled_keys(self.block, self.block.padded(inputs))
