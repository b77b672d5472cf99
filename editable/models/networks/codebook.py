"""A codebook behind a classifier: inputs near one of its keys get the key's label, all others are as they were."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from editable.errors import UserError, require_positive
from editable.models.networks.classifier import find_classifier

__all__ = ["Codebook", "add_codebook", "codebook_rows"]

ROWS = ("match.weight", "thresholds", "values")
"""What a codebook has a row of for each key."""


class Codebook(nn.Module):
    r"""Raises the label of the nearest key above all others, where an input is near enough.

    .. math:: q(h) = \frac{M (h - μ)}{\lVert M (h - μ) \rVert}, \qquad
        r = \arg\max_{r:\, q \cdot k_r ≥ τ_r} q \cdot k_r

    Where there is no such row r, the logits are those of the classifier, bit for bit. (GRACE, Hartvigsen et al.,
    NeurIPS 2023, has Euclidean balls; here the space is whitened, in which features of different images are hardly
    alike.)

    The first row has a key of zeros and never fires, so that there is always one. Rows are parameters, so that an edit
    gives more of them in place of the layer's own.

    Args:
        features: Length of h, the classifier's input.
        classes: Number of logits.
        margin: By how much a raised label leads all others, in logits.

    Attributes:
        match: Its weight has the keys, unit vectors [R, features].
        thresholds: τ, cosines in (0, 1], [R].
        values: What to raise, the asked label's unit vector, [R, classes].
        mean: μ, [features].
        whitening: M, [features, features].

    Raises:
        UserError: If a number is not positive.
    """

    mean: Tensor
    whitening: Tensor

    def __init__(self, features: int, classes: int, margin: float = 1.0) -> None:
        super().__init__()
        require_positive(features=features, classes=classes, margin=margin)
        self.margin = margin
        self.match = nn.Linear(features, 1, bias=False)
        nn.init.zeros_(self.match.weight)
        self.thresholds = nn.Parameter(torch.ones(1))
        self.values = nn.Parameter(torch.zeros(1, classes))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("whitening", torch.eye(features))

    def query(self, x: Tensor) -> Tensor:
        """Return q of features [N, features]."""
        whitened = (x - self.mean) @ self.whitening.T
        return whitened / whitened.norm(dim=-1, keepdim=True).clamp(min=1e-12)

    def forward(self, x: Tensor, logits: Tensor) -> Tensor:
        """Return logits [N, classes] of features [N, features] and the classifier's logits [N, classes]."""
        cosines = self.match(self.query(x))
        best, row = cosines.masked_fill(cosines < self.thresholds, -1.0).max(dim=-1)
        value = self.values.index_select(0, row)
        raised = value > 0
        highest = logits.masked_fill(raised, -torch.inf).amax(dim=-1)
        own = logits.masked_fill(~raised, -torch.inf).amax(dim=-1)
        lift = (highest + self.margin - own).clamp(min=0)
        return torch.where((best > 0).unsqueeze(-1), logits + lift.unsqueeze(-1) * value, logits)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take as many rows as the state has."""
        rows = state_dict.get(f"{prefix}thresholds")
        if isinstance(rows, Tensor) and rows.ndim == 1:
            self.resize(len(rows))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def resize(self, rows: int) -> None:
        """Make room for R rows, which are then empty."""
        for module, name in ((self.match, "weight"), (self, "thresholds"), (self, "values")):
            own = getattr(module, name)
            setattr(module, name, nn.Parameter(own.new_zeros(rows, *own.shape[1:]), own.requires_grad))

    def extra_repr(self) -> str:
        """Show sizes."""
        return f"features={self.match.weight.shape[1]}, classes={self.values.shape[1]}, rows={len(self.thresholds) - 1}"


def codebook_rows(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return how many rows a state dict has for each codebook of a network, by the codebook's name.

    Args:
        network: The network, whose codebooks may have other numbers of rows.
        state: A state dict; a codebook that is not in it, or whose parts do not agree, is left out.
    """
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, Codebook):
            parts = [state.get(f"{name}.{part}") for part in ROWS]
            counts = {len(part) if part is not None and part.ndim else 0 for part in parts}
            if len(counts) == 1 and 0 not in counts:
                found[name] = counts.pop()
    return found


class CodebookLinear(nn.Linear):
    """A linear classifier with a codebook behind it; its own parameters keep their names.

    Args:
        classifier: The layer whose weight and bias it takes, the same objects.
        margin: Of the codebook.
    """

    def __init__(self, classifier: nn.Linear, margin: float = 1.0) -> None:
        super().__init__(classifier.in_features, classifier.out_features, classifier.bias is not None, device="meta")
        self.weight, self.bias = classifier.weight, classifier.bias
        self.codebook = Codebook(classifier.in_features, classifier.out_features, margin).to(classifier.weight)

    def forward(self, input: Tensor) -> Tensor:
        """Return logits [N, classes] of features [N, features]."""
        return self.codebook(input, functional.linear(input, self.weight, self.bias))


def add_codebook(network: nn.Module, name: str | None = None, margin: float = 1.0) -> nn.Module:
    """Put a codebook behind a network's classifier, its last linear layer; it computes what it did before.

    The pattern ``codebook`` names its rows to `select_parameters`; all other parameters keep their names.

    Args:
        network: The classifier, from images [N, C, H, W] to logits [N, classes]; it is changed.
        name: The name of the linear layer that gives the logits; by default it is found.
        margin: By how much a raised label leads all others, in logits.

    Returns:
        The same network.

    Raises:
        UserError: If there is a codebook already, or the last layer is not linear or cannot be found.
    """
    if any(isinstance(module, Codebook) for module in network.modules()):
        raise UserError(f"{type(network).__name__} has a codebook already: one is enough")
    name, classifier = find_classifier(network, "a codebook", name)
    network.set_submodule(name, CodebookLinear(classifier, margin).train(classifier.training))
    return network
