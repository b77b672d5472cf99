"""An extra layer before the classifier, for edits to change: it starts as the identity."""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

from editable.errors import UserError, require_width
from editable.models.added.classifier import find_classifier
from editable.models.weights import load_weights

__all__ = ["ExtraLayer", "add_extra_layer"]

EXPANSION = 8  # 4096 hidden values for the 512 of a ResNet-18


class ExtraLayer(nn.Module):
    """Adds to a feature vector what two linear layers make of it (Sinitsin et al., ICLR 2020).

    h ↦ h + W₂·ELU(W₁h + b₁) + b₂, from [N, features] to [N, features]; W₂ and b₂ start at zero, so that the layer
    starts as the identity.

    Args:
        features: Length of h.
        hidden: Length of W₁h; by default eight times that of h.

    Raises:
        UserError: If a length is not positive.
    """

    def __init__(self, features: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = EXPANSION * features if hidden is None else hidden
        require_width(features=features, hidden=hidden)
        self.expand = nn.Linear(features, hidden)
        self.contract = nn.Linear(hidden, features)
        nn.init.zeros_(self.contract.weight)
        nn.init.zeros_(self.contract.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Compute [N, features] from [N, features]."""
        return x + self.contract(functional.elu(self.expand(x)))


def add_extra_layer(
    network: nn.Module, name: str | None = None, hidden: int | None = None, weights: str | None = None
) -> nn.Module:
    """Put an `ExtraLayer` in front of a network's classifier, its last linear layer.

    The classifier, such as ``fc``, becomes a chain of two: ``fc.extra_layer`` and ``fc.classifier``, so the pattern
    ``extra_layer`` names the new parameters to `select_parameters`. With that the old parameters ``fc.weight`` and
    ``fc.bias`` are called ``fc.classifier.weight`` and ``fc.classifier.bias``: weights saved before belong to the
    network without the extra layer. They are given here, or loaded before; weights saved afterwards fit what this
    function returns. The network computes what it did before, as the layer starts as the identity.

    Args:
        network: The classifier, from images [N, C, H, W] to logits [N, classes], by its class, or by a function that
            makes one; it is changed.
        name: The name of the linear layer that gives the logits; by default it is found.
        hidden: Length of the extra layer's hidden vector; by default eight times that of the classifier's input.
        weights: Weights that the network had without the extra layer, a ``.safetensors`` file or a checkpoint of
            tensors.

    Returns:
        The same network.

    Raises:
        UserError: If there is an extra layer already, the last layer is not linear or cannot be found, none has the
            name, ``hidden`` is not positive, or the weights do not fit.

    Example:
        >>> network = add_extra_layer(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)))
        >>> [name for name, _ in network.named_parameters()][:2]
        ['1.extra_layer.expand.weight', '1.extra_layer.expand.bias']
    """
    for other, module in network.named_modules():
        if isinstance(module, ExtraLayer):
            raise UserError(f"{type(network).__name__} has an extra layer already, '{other}': one is enough")
    name, classifier = find_classifier(network, "an extra layer", name)
    extra_layer = ExtraLayer(classifier.in_features, hidden).to(classifier.weight)
    if weights is not None:
        load_weights(network, weights)
    both = nn.Sequential(OrderedDict(extra_layer=extra_layer, classifier=classifier))
    network.set_submodule(name, both.train(classifier.training))
    return network
