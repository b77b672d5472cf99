"""The classifier trained again, towards its old weights, on images that it knows and on those that it got wrong."""

import copy
import warnings
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional

from editable.editing.editors.base import (
    BaseEditor,
    ForwardFunction,
    Inputs,
    check_edit,
    label_range,
    match_precision,
)
from editable.editing.editors.objective import is_predicted
from editable.editing.editors.result import EditResult
from editable.editing.editors.site import EditSite
from editable.editing.linear.asked_samples import check_samples
from editable.editing.linear.linear_layer import LinearLayer
from editable.errors import UserError, require_at_least, require_not_negative, require_positive

__all__ = ["LastLayerRetraining", "Weighting", "reference_weights"]

Weighting = Literal["wrong", "group", "equal"]
GROWTH = 4.0  # of the weight of an edited sample that does not hold
GRADIENT = 1e-6  # largest entry of the gradient, in coordinates in which curvature is at most 1, at the end
MOST_ITERATIONS = 2000


class LastLayerRetraining(BaseEditor):
    r"""Trains the last linear layer again by logistic regression towards its old weights.

    .. math:: \min_W \sum_r ω_r \, ℓ(W k_r, y_r) + \sum_i κ_i \, ℓ(W k_i, y_i) + \tfrac λ2 \, s \lVert W - W_0 \rVert^2

    over reference images r with their labels, Σω = 1, and edited samples i; ℓ is the cross-entropy, k what the layer
    reads, and s the mean of k² over entries and weighted references. Reference images are weighted

    - ``wrong``: by how wrong the unedited network is, :math:`ω ∝ e^{-γ p(y)} / n_y`, n_y images having the label
      (AFR, Qiu et al., ICML 2023);
    - ``group``: so that each group, of one label and one prediction of the unedited network, has the same weight (DFR,
      Kirichenko et al., ICLR 2023, where groups are known; here they are the kinds of mistakes);
    - ``equal``.

    Edited samples have κ at first, and four times as much each time that they do not hold. The minimum is unique, and
    found by L-BFGS in float64 until the gradient vanishes, preconditioned by a bound of the curvature, in what the
    samples span.

    In a stream it is trained on all samples so far, from the unedited weights; the last word on a sample counts.

    Args:
        max_steps: Largest number of trainings, each with larger weights of samples that do not hold.
        margin: By how much, in logits, the asked label leads all others.
        weighting: As above.
        gamma: γ of ``wrong``.
        strength: λ.
        edit_weight: κ at first, of each edited sample; all references together have 1.
        num_references: Number of images, neither edited nor judged, that it is trained on.

    Raises:
        UserError: If a number is out of its range; at a place that is not the layer that gives the logits.
    """

    def __init__(
        self,
        max_steps: int = 10,
        margin: float = 0.1,
        weighting: Weighting = "wrong",
        gamma: float = 4.0,
        strength: float = 1e-2,
        edit_weight: float = 1e-2,
        num_references: int = 10_000,
    ) -> None:
        super().__init__(max_steps, margin)
        require_positive(strength=strength, edit_weight=edit_weight)
        require_not_negative(gamma=gamma)
        require_at_least(1, max_steps=max_steps, num_references=num_references)
        if weighting not in get_args(Weighting):
            raise UserError(f"weighting must be one of {', '.join(get_args(Weighting))}, got {weighting!r}")
        self.weighting: Weighting = weighting
        self.gamma, self.strength, self.edit_weight = gamma, strength, edit_weight
        self.num_references = num_references
        self._place: tuple[LinearLayer, _Samples] | None = None

    @torch.no_grad()
    def at(self, site: EditSite) -> "LastLayerRetraining":
        """Return the editor with what the layer reads of reference images; see :meth:`BaseEditor.at`."""
        layer, params = LinearLayer(site.split), site.split.params
        parts: list[_Samples] = []
        for features, labels in site.feature_batches(self.num_references):
            if not parts:
                _require_last(layer, *layer.derivatives(site.split.suffix, params, tuple(x[:1] for x in features))[1:])
            keys = layer.keys(site.split.suffix, params, features)
            logits = site.split.suffix(features, params).double()
            if int(labels.max()) >= logits.shape[1] or int(labels.min()) < 0:
                raise UserError(
                    f"reference images have labels up to {int(labels.max())}, but the network's classes are 0 … "
                    f"{logits.shape[1] - 1}"
                )
            parts.append(_Samples(keys, logits - keys @ layer.matrix(params).T, labels, torch.ones_like(keys[:, 0])))
        references = _Samples(*map(torch.cat, zip(*parts, strict=True)))
        weights = reference_weights(
            references.logits(layer.matrix(params)), references.labels, self.weighting, self.gamma
        )
        editor = copy.copy(self)
        editor._place = layer, references._replace(weights=weights)
        return editor

    def forward(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        differentiable: bool = False,
    ) -> EditResult:
        """Make one edit of all samples; see :meth:`BaseEditor.forward`. It cannot be differentiated."""
        self._refuse_differentiable(differentiable)
        return self.extend(forward, params, inputs, targets, {})[0]

    @torch.no_grad()
    def extend(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        state: Mapping[str, Tensor],
    ) -> tuple[EditResult, dict[str, Tensor]]:
        """Make the next edit of a stream: train on all samples so far; see :meth:`BaseEditor.extend`."""
        if self._place is None:
            raise UserError("LastLayerRetraining needs reference images: call at(EditSite(…)) first")
        layer, references = self._place
        targets = check_edit(params, inputs, targets)
        inputs = match_precision(inputs, params, differentiable=False)
        refuse_labels = self._loss_function(forward, label_range(targets))  # that are no classes
        refuse_labels(dict(params), inputs, targets)
        matrix = layer.matrix(params)
        keys = layer.keys(forward, params, inputs)
        check_samples(keys, targets)
        offsets = forward(inputs, params).double() - keys @ matrix.T
        samples = _Samples(keys, offsets, targets, keys.new_full((len(keys),), self.edit_weight)).behind(state)
        base = state["base"] if state else matrix
        for step in range(self.max_steps + 1):
            leads = _leads(samples.logits(matrix), samples.labels)
            holds = (leads >= self.margin) & (leads > 0)
            if bool(holds.all()) or step == self.max_steps:
                break
            if step:
                samples = samples._replace(weights=torch.where(holds, samples.weights, GROWTH * samples.weights))
            both = _Samples(*map(torch.cat, zip(references, samples, strict=True)))
            moment = (references.weights * references.keys.square().mean(dim=1)).sum()
            trained = _minimise(both, base, matrix, self.strength * float(moment))
            matrix = layer.matrix(layer.params(trained, params))  # as rounded
        current = layer.params(matrix, params)
        logits = forward(inputs, current)
        right = is_predicted(logits, targets)
        missed = int((~holds).sum())
        if missed:
            warnings.warn(
                f"{missed} of {len(holds)} samples do not get their labels by the margin in {self.max_steps} "
                "trainings: what is asked of them contradicts what is asked of others, or is more than the layer can "
                "hold",
                UserWarning,
                stacklevel=2,
            )
        result = EditResult(
            current, self.objective(logits, targets), right.all(), torch.tensor(step, device=targets.device)
        )
        return result, {"base": base, **samples._asdict()}


class _Samples(NamedTuple):
    """What a layer reads of S samples, and what they shall become.

    Attributes:
        keys: float64 [S, d].
        offsets: The part of the logits that the layer's matrix does not give, such as a bias that stays, [S, C].
        labels: int64 [S].
        weights: float64 [S].
    """

    keys: Tensor
    offsets: Tensor
    labels: Tensor
    weights: Tensor

    def logits(self, matrix: Tensor) -> Tensor:
        """Return logits [S, C] with a matrix [C, d]."""
        return self.offsets + self.keys @ matrix.T

    def behind(self, state: Mapping[str, Tensor]) -> "_Samples":
        """Return them behind those of a state, without those of the state that are among them."""
        if not state:
            return self
        stays = ~(state["keys"][:, None] == self.keys).all(dim=-1).any(dim=1)
        return _Samples(*(torch.cat([state[name][stays], own]) for name, own in self._asdict().items()))


def reference_weights(logits: Tensor, labels: Tensor, weighting: Weighting, gamma: float) -> Tensor:
    """Return weights of reference images by the unedited network's logits [n, C] and their labels [n].

    Returns:
        float64 [n], with a sum of 1.
    """
    weights = torch.ones(len(labels), dtype=torch.float64, device=labels.device)
    if weighting == "wrong":
        right = logits.double().softmax(dim=1).gather(1, labels[:, None]).flatten()
        weights = (-gamma * right).exp() / labels.bincount(minlength=logits.shape[1])[labels]
    elif weighting == "group":
        _, group, number = (labels * logits.shape[1] + logits.argmax(dim=1)).unique(
            return_inverse=True, return_counts=True
        )
        weights = weights / number[group]
    return weights / weights.sum()


def _minimise(samples: _Samples, base: Tensor, start: Tensor, strength: float) -> Tensor:
    """Return the matrix [C, d] of the least Σ w·ℓ + ½·strength·‖W − base‖², from a start.

    The Hessian is at most P = ½ Σ w kkᵀ + strength, for each class. What is searched for is Δ·V·P^{1/2}, V the
    eigenvectors of P among what the samples' keys span, where the least Δ lies: no more columns than samples.
    """
    weights, labels = samples.weights[:, None], functional.one_hot(samples.labels, len(base))
    vectors, curvature = _spanned((0.5 * weights).sqrt() * samples.keys)
    curvature = curvature + strength
    scale, shrink = curvature.rsqrt(), strength / curvature
    keys, fixed = samples.keys @ vectors * scale, samples.logits(base)
    change = ((start - base) @ vectors / scale).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [change],
        max_iter=MOST_ITERATIONS,
        max_eval=2 * MOST_ITERATIONS,
        tolerance_grad=GRADIENT,
        tolerance_change=0.0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    @torch.no_grad()
    def closure() -> Tensor:
        log_p = (fixed + keys @ change.T).log_softmax(dim=1)
        pull = shrink * change
        change.grad = (weights * (log_p.exp() - labels)).T @ keys + pull
        return -(weights * labels * log_p).sum() + 0.5 * (pull * change).sum()

    optimizer.step(closure)
    closure()
    assert change.grad is not None
    left = float(change.grad.abs().max())
    if not left <= 100 * GRADIENT:
        warnings.warn(
            f"the last layer's training ended with a gradient of {left:.1e}, not at its minimum: a larger strength "
            "makes it easier",
            UserWarning,
            stacklevel=4,
        )
    return base + (change.detach() * scale) @ vectors.T


def _spanned(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvectors [d, r] and eigenvalues [r] of KᵀK for K [S, d], r = min(S, d)."""
    if len(keys) < keys.shape[1]:
        _, singular, vectors = torch.linalg.svd(keys, full_matrices=False)
        return vectors.T, singular.square()
    values, vectors = torch.linalg.eigh(keys.T @ keys)
    return vectors, values.clamp(min=0)


def _leads(logits: Tensor, labels: Tensor) -> Tensor:
    """Return by how much each label leads the best other one, [N]."""
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
    return logits.gather(1, labels[:, None]).flatten() - others


def _require_last(layer: LinearLayer, logits: Tensor, derivatives: Tensor) -> None:
    unit = torch.eye(logits.shape[1], dtype=derivatives.dtype, device=derivatives.device)
    if derivatives.shape[1:] != unit.shape or not torch.equal(derivatives[0], unit):
        raise UserError(
            f"LastLayerRetraining trains the layer that gives the logits, but what '{layer.name}' gives goes on "
            "through others: name the last linear layer, such as fc"
        )
