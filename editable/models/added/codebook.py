"""A codebook behind logits: inputs near one of its keys get the key's label, all others are as they were."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from editable.errors import require_positive
from editable.models.added.row_layer import RowLayer

__all__ = ["Codebook"]


class Space(nn.Module):
    r"""Where what one layer reads is compared: :math:`h ↦ \sqrt{w}\, M(h - μ)/\lVert M(h - μ) \rVert`.

    Args:
        features: Length of h.
        weight: w, its share of the cosine, in (0, 1].

    Attributes:
        mean: μ, [features].
        whitening: M, [features, features].
        weight: w, [].
    """

    mean: Tensor
    whitening: Tensor
    weight: Tensor

    def __init__(self, features: int, weight: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("whitening", torch.eye(features))
        self.register_buffer("weight", torch.tensor(weight))

    def forward(self, x: Tensor) -> Tensor:
        """Return vectors of length √w, or zeros, of features [N, features]."""
        whitened = (x - self.mean) @ self.whitening.T
        return whitened / whitened.norm(dim=-1, keepdim=True).clamp(min=1e-12) * self.weight.sqrt()


class Codebook(RowLayer):
    r"""Raises the label of the nearest key above all others, where an input is near enough.

    It reads h = (h_1, …, h_L), what L layers read, each whitened by itself:

    .. math:: q(h) = \left( \sqrt{w_l}\, \frac{M_l (h_l - μ_l)}{\lVert M_l (h_l - μ_l) \rVert} \right)_{l = 1}^L,
        \qquad \sum_l w_l = 1

    so that q · k is the mean of the layers' cosines by the weights w. Of the keys that an input is within reach of,
    each adds to the logits by a kernel of compact support; then the nearest one whose threshold it passes decides:

    .. math:: z ← z + \sum_r β_r \left( \frac{(q \cdot k_r - t)_+}{1 - t} \right)^p v_r, \qquad
        r = \arg\max_{r:\, q \cdot k_r ≥ τ_r} q \cdot k_r

    Where there is no such row, and no key with β_r ≠ 0 within t, the logits are the network's, bit for bit. (GRACE,
    Hartvigsen et al., NeurIPS 2023, has Euclidean balls in one layer and no kernel; here the space is whitened, in
    which features of different images are hardly alike.)

    The first row has a key of zeros and never fires, so that there is always one. Rows are parameters, so that an edit
    gives more of them in place of the layer's own.

    Args:
        features: Length of each h_l; one number where there is one layer.
        classes: Number of logits.
        margin: By how much a raised label leads all others, in logits.

    Attributes:
        match: Its weight has the keys, unit vectors [R, Σ features].
        thresholds: τ, cosines in (0, 1], [R].
        values: v, 1 at the asked label, −1 at the one that it was mistaken for where the kernel takes it back,
            [R, classes].
        strengths: β, what the kernel adds at the key itself, in logits, [R].
        spaces: μ_l, M_l and w_l, for each layer.
        radius: t, the cosine from which the kernel is more than zero, in [0, 1), [].
        power: p, [].

    Raises:
        UserError: If a number is not positive.
    """

    rows = ("match.weight", "thresholds", "values", "strengths")
    radius: Tensor
    power: Tensor

    def __init__(self, features: int | Sequence[int], classes: int, margin: float = 1.0) -> None:
        super().__init__()
        require_positive(features=features, classes=classes, margin=margin)
        self.margin = margin
        self.sizes = [features] if isinstance(features, int) else list(features)
        self.match = nn.Linear(sum(self.sizes), 1, bias=False)
        nn.init.zeros_(self.match.weight)
        self.thresholds = nn.Parameter(torch.ones(1))
        self.values = nn.Parameter(torch.zeros(1, classes))
        self.strengths = nn.Parameter(torch.zeros(1))
        self.spaces = nn.ModuleList(Space(size, 1 / len(self.sizes)) for size in self.sizes)
        self.register_buffer("radius", torch.tensor(0.0))
        self.register_buffer("power", torch.tensor(1.0))

    def query(self, x: Tensor) -> Tensor:
        """Return q of features [N, Σ features], those of all layers side by side."""
        ends = accumulate(self.sizes)  # slices, since torch.fx cannot unpack what a split gives
        parts = [x[..., end - size : end] for size, end in zip(self.sizes, ends, strict=True)]
        return torch.cat([space(part) for space, part in zip(self.spaces, parts, strict=True)], dim=-1)

    def kernel(self, cosines: Tensor) -> Tensor:
        """Return what the kernel gives for cosines, zero outside its radius and for NaN."""
        inside = (cosines - self.radius) / (1 - self.radius)
        return torch.where(inside > 0, inside.clamp(min=0) ** self.power, 0.0)

    def forward(self, x: Tensor, logits: Tensor) -> Tensor:
        """Return logits [N, classes] of features [N, Σ features] and the network's logits [N, classes]."""
        cosines = self.match(self.query(x))
        logits = logits + (self.kernel(cosines) * self.strengths) @ self.values
        best, row = cosines.masked_fill(cosines < self.thresholds, -1.0).max(dim=-1)
        raised = self.values.index_select(0, row) > 0
        highest = logits.masked_fill(raised, -torch.inf).amax(dim=-1)
        own = logits.masked_fill(~raised, -torch.inf).amax(dim=-1)
        lift = (highest + self.margin - own).clamp(min=0)
        return torch.where(raised & (best > 0).unsqueeze(-1), logits + lift.unsqueeze(-1), logits)

    def fires(self, x: Tensor) -> Tensor:
        """Return which features [N, Σ features] any key touches, by its threshold or its kernel, bool [N]."""
        cosines = self.match(self.query(x))
        pushed = (self.kernel(cosines) > 0) & (self.strengths != 0)
        return (((cosines >= self.thresholds) & (cosines > 0)) | pushed).any(dim=-1)

    def extra_repr(self) -> str:
        """Show sizes."""
        return f"features={self.sizes}, classes={self.values.shape[1]}, rows={len(self.thresholds) - 1}"
