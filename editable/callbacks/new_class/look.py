"""A look at images through a network and new filters beside a layer of it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from editable.models import GrownNetwork, Pooling, evaluation_mode, grow_classes
from editable.models.devices import to_device
from editable.rewriting.new_class.final_features import FinalFeatures

__all__ = ["Look", "NewLogitScores", "classifier_of", "grow_with", "look_at"]


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
    """

    labels: Tensor
    old_logits: Tensor
    pooled: Tensor
    features: Tensor | None

    def of_filter(self, number: int) -> NewLogitScores:
        """Return the scores of one of the filters."""
        return NewLogitScores(self.pooled[:, number], self.old_logits, self.labels)

    def of_vector(self, vector: Tensor) -> NewLogitScores:
        """Return the scores of a vector [d] of weights of the last layer."""
        assert self.features is not None, "features were not asked for"
        return NewLogitScores(self.features.double() @ vector, self.old_logits, self.labels)


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
def look_at(
    network: nn.Module,
    layer: str,
    filters: Sequence[Tensor],
    pooling: Pooling,
    loader: DataLoader,
    with_features: bool,
    device: torch.device,
    progress: Callable[[int], object] = lambda images: None,
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

    Raises:
        UserError: If features are asked for, but the network's last layer is not linear.
    """
    whole = grow_with(network, layer, filters, pooling) if filters else network
    final = FinalFeatures(classifier_of(network), whole)
    parts: list[tuple[Tensor, ...]] = []
    with evaluation_mode(whole):
        for images, labels in loader:
            images = to_device(images, device)
            outputs = final(images) if with_features else (whole(images),)
            parts.append((labels, *(output.cpu() for output in outputs)))
            progress(len(images))
    labels, logits, *features = (torch.cat(column) for column in zip(*parts, strict=True))
    num_old = logits.shape[1] - len(filters)
    return Look(labels, logits[:, :num_old], logits[:, num_old:], features[0] if features else None)


def classifier_of(network: nn.Module) -> nn.Module:
    """Return the classifier that a network was grown from, or itself."""
    return network.base if isinstance(network, GrownNetwork) else network
