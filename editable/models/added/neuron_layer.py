"""Neurons behind a classifier: each adds to the logits of the inputs that it fires at, all others are as they were."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from editable.errors import UserError, require_positive
from editable.models.added.classifier import find_classifier
from editable.models.added.codebook import Codebook
from editable.models.added.row_layer import RowLayer

__all__ = ["Neurons", "add_neurons"]


class Neurons(RowLayer):
    r"""Adds v·ReLU(uᵀh + b) to the logits for each neuron (T-Patcher, Huang et al., ICLR 2023).

    .. math:: z ← z + \sum_r v_r \, \mathrm{ReLU}(u_r^\top h + b_r)

    Where no neuron fires, the logits are those of the classifier, bit for bit.

    The first row never fires, so that there is always one. Rows are parameters, so that an edit gives more of them in
    place of the layer's own; whoever leaves a row out takes its edit back.

    Args:
        features: Length of h, the classifier's input.
        classes: Number of logits.

    Attributes:
        keys: Its weight has u, [R, features], its bias b, [R].
        values: v, [R, classes].

    Raises:
        UserError: If a number is not positive.
    """

    rows = ("keys.weight", "keys.bias", "values")

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        require_positive(features=features, classes=classes)
        self.keys = nn.Linear(features, 1)
        nn.init.zeros_(self.keys.weight)
        nn.init.constant_(self.keys.bias, -1.0)
        self.values = nn.Parameter(torch.zeros(1, classes))

    def forward(self, x: Tensor, logits: Tensor) -> Tensor:
        """Return logits [N, classes] of features [N, features] and the classifier's logits [N, classes]."""
        return logits + functional.relu(self.keys(x)) @ self.values

    def extra_repr(self) -> str:
        """Show sizes."""
        return f"features={self.keys.weight.shape[1]}, classes={self.values.shape[1]}, rows={len(self.values) - 1}"


class NeuronLinear(nn.Linear):
    """A linear classifier with neurons behind it; its own parameters keep their names.

    Args:
        classifier: The layer whose weight and bias it takes, the same objects.
    """

    def __init__(self, classifier: nn.Linear) -> None:
        super().__init__(classifier.in_features, classifier.out_features, classifier.bias is not None, device="meta")
        self.weight, self.bias = classifier.weight, classifier.bias
        self.neurons = Neurons(classifier.in_features, classifier.out_features).to(classifier.weight)

    def forward(self, input: Tensor) -> Tensor:
        """Return logits [N, classes] of features [N, features]."""
        return self.neurons(input, functional.linear(input, self.weight, self.bias))


def add_neurons(network: nn.Module, name: str | None = None) -> nn.Module:
    """Put a layer of neurons behind a network's classifier, its last linear layer; it computes what it did before.

    The pattern ``neurons`` names its rows to `select_parameters`; all other parameters keep their names.

    Args:
        network: The classifier, from images [N, C, H, W] to logits [N, classes]; it is changed.
        name: The name of the linear layer that gives the logits; by default it is found.

    Returns:
        The same network.

    Raises:
        UserError: If there are neurons or a codebook already, or the last layer is not linear or cannot be found.
    """
    for module in network.modules():
        if isinstance(module, Neurons | Codebook):
            there = "neurons" if isinstance(module, Neurons) else "a codebook"
            raise UserError(f"{type(network).__name__} has {there} behind its classifier already: give it one memory")
    name, classifier = find_classifier(network, "a layer of neurons", name)
    network.set_submodule(name, NeuronLinear(classifier).train(classifier.training))
    return network
