"""One draw of examples of a new class: what is trained on them, and a look at images through what was trained."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from editable.callbacks.new_class.outcome import NewLogitScores
from editable.models import GrownNetwork, Pooling, evaluation_mode, grow_classes
from editable.rewriting import LayerBlock
from editable.rewriting.new_class.class_filter import ClassFilter, FilterExamples
from editable.rewriting.new_class.final_features import FinalFeatures

__all__ = ["Look", "NewClassTrial", "classifier_of", "grow_with", "look_at", "some_images"]


class NewClassTrial(NamedTuple):
    """What was made of one draw of examples.

    Attributes:
        block: The filters' layer.
        positives: Images of the new class, as the network takes them, [P, C, H, W].
        negatives: Positions of the negatives in the pool of images of old classes, int64 [N].
        negative_images: [N, C, H, W].
        examples: Both at the filter's layer.
        filters: For each weight λ of negatives.
        activations: Of each filter, the mean of σ(W * x) on positives and negatives.
        vectors: Baselines by name, float64 [d].
    """

    block: LayerBlock
    positives: Tensor
    negatives: Tensor
    negative_images: Tensor
    examples: FilterExamples
    filters: list[ClassFilter]
    activations: list[tuple[float, float]]
    vectors: dict[str, Tensor]


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
            images = images.to(device)
            outputs = final(images) if with_features else (whole(images),)
            parts.append((labels, *(output.cpu() for output in outputs)))
            progress(len(images))
    labels, logits, *features = (torch.cat(column) for column in zip(*parts, strict=True))
    num_old = logits.shape[1] - len(filters)
    return Look(labels, logits[:, :num_old], logits[:, num_old:], features[0] if features else None)


def classifier_of(network: nn.Module) -> nn.Module:
    """Return the classifier that a network was grown from, or itself."""
    return network.base if isinstance(network, GrownNetwork) else network


def some_images(dataset: Dataset, positions: Tensor) -> Tensor:
    """Return some images of a data set, [n, C, H, W]."""
    return torch.stack([torch.as_tensor(dataset[position][0]) for position in positions.tolist()])
