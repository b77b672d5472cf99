"""The logit of a new class: of one filter beside a layer, or of discriminants against all old classes."""

import copy
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["LogitKind", "NewDiscriminant", "NewLogit", "Pooling"]

Pooling = Literal["mean", "max"]
"""What becomes of a filter's map: its mean over all positions, or its largest value."""

LogitKind = Literal["filter", "discriminant"]
"""What a new logit is made of: a filter of its own, or discriminants of the new class and of all old ones."""


class NewLogit(nn.Module):
    """The logit of a new class: a filter on what a layer reads, its map pooled, scaled and shifted.

    z = a · pool(W * x) + b. A new one has random weights W as any new convolution, a = 1 and b = 0: in the source
    (Elango 2021, ch. 4) the new class's row of the final layer is one-hot at the new filter, which is this a and b.

    Args:
        layer: The convolution [f, c, m, n] whose input is read. The filter is a copy of it with one output in place
            of f, so that it moves and pads likewise.
        pooling: ``mean`` or ``max`` over positions.

    Attributes:
        filter: The convolution, its weight W of shape [1, c, m, n].
        scale: a, a parameter [1].
        bias: b, a parameter [1].
    """

    def __init__(self, layer: nn.Conv2d, pooling: Pooling = "mean") -> None:
        super().__init__()
        self.pooling = pooling
        self.filter = copy.deepcopy(layer)
        self.filter.out_channels = 1
        self.filter.weight = nn.Parameter(torch.empty_like(layer.weight[:1]))
        self.filter.bias = None
        self.filter.reset_parameters()
        self.scale = nn.Parameter(layer.weight.new_ones(1))
        self.bias = nn.Parameter(layer.weight.new_zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the logit [N, 1] from what the layer reads, [N, c, H, W]."""
        return self.pool(self.filter(inputs)) * self.scale + self.bias

    def pool(self, maps: Tensor) -> Tensor:
        """Pool maps [N, F, h, w] to [N, F]."""
        return maps.mean((2, 3)) if self.pooling == "mean" else maps.amax((2, 3))


class NewDiscriminant(nn.Module):
    """The log odds of a new class against all old ones, by a linear discriminant of each; see ``ClassDiscriminant``.

    d = q₀ − log Σ_j exp q_j, and a new logit z = d + b + log Σ_j exp z_j over the old logits: so the probability of the
    new class is σ(d + b), and those of the old ones keep their ratios.

    Args:
        layer: The convolution [f, c, m, n] or linear layer [f, c] whose input is read, that of a convolution pooled to
            its mean; discriminants are a copy of it with 1 + K outputs in place of f.
        num_old: K.

    Attributes:
        discriminants: The layer, its weight [1 + K, c, …] and bias [1 + K]; zeros at first.
        bias: b, a parameter [1].
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, num_old: int) -> None:
        super().__init__()
        self.discriminants = copy.deepcopy(layer)
        setattr(self.discriminants, "out_channels" if isinstance(layer, nn.Conv2d) else "out_features", 1 + num_old)
        weight = layer.weight
        self.discriminants.weight = nn.Parameter(weight.new_zeros(1 + num_old, *weight.shape[1:]))
        self.discriminants.bias = nn.Parameter(weight.new_zeros(1 + num_old))
        self.bias = nn.Parameter(weight.new_zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the shifted log odds [N, 1] from what the layer reads, [N, c, H, W] or [N, c]."""
        scores = self.discriminants(inputs)
        if isinstance(self.discriminants, nn.Conv2d):
            scores = scores.mean((2, 3))
        return scores[:, :1] - scores[:, 1:].logsumexp(1, True) + self.bias
