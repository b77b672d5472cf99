"""What ridge and null-space editors share: asked changes of a layer's output, met by regularised least squares."""

import copy
from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from editable.editing.editors.base import (
    BaseEditor,
    ForwardFunction,
    Inputs,
    check_edit,
    label_range,
    match_precision,
    require_classes,
)
from editable.editing.editors.objective import is_predicted
from editable.editing.editors.result import EditResult
from editable.editing.editors.site import EditSite
from editable.editing.linear.linear_layer import LinearLayer, warn_of_missed
from editable.errors import UserError, require_at_least, require_positive

__all__ = ["LeastSquaresEditor"]


class LeastSquaresEditor(BaseEditor):
    r"""Changes one linear layer by Δ = R Kᵀ (A + KKᵀ)⁻¹, all samples of a stream together or one by one alike.

    .. math:: \min_Δ \lVert ΔK - R \rVert^2 + \operatorname{tr}(Δ A Δ^\top)

    K [d, S] are the keys of all samples so far, and what is asked of them is read off the unedited network: a sample's
    label shall lead all others by the margin m, so that its logit has to rise by
    t = max(0, m + max_{j≠y} z_j − z_y), and R's column is the least change r of the layer's output with D r = t e_y, D
    the derivative of the logits by it: t e_y where this is the logits. Samples that are right have r = 0, and are held.

    Of earlier edits a stream remembers P = (A + KKᵀ)⁻¹ and Δ alone. With further keys K and R (Woodbury),

    .. math:: L L^\top = I + K^\top P K, \quad G = L^{-1} K^\top P, \quad
        Δ ← Δ + (R - ΔK) L^{-\top} G, \quad P ← P - G^\top G

    Args:
        margin: m, in logits.
        num_references: Number of images, neither edited nor judged, over which the keys' second moment is collected.

    Raises:
        UserError: If a number is out of its range.
    """

    def __init__(self, margin: float, num_references: int) -> None:
        super().__init__(1, margin)
        require_positive(margin=margin)
        require_at_least(1, num_references=num_references)
        self.num_references = num_references
        self._place: tuple[LinearLayer, Tensor] | None = None

    @abstractmethod
    def _inverse(self, layer: LinearLayer, site: EditSite) -> Tensor:
        """Return A⁻¹, float64 [d, d], or what stands for it where A is infinite in some directions."""

    def at(self, site: EditSite) -> "LeastSquaresEditor":
        """Return the editor with what reference images ask for at a layer; see :meth:`BaseEditor.at`."""
        layer = LinearLayer(site.split)
        editor = copy.copy(self)
        editor._place = layer, self._inverse(layer, site).to(site.device)
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

    def extend(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        state: Mapping[str, Tensor],
    ) -> tuple[EditResult, dict[str, Tensor]]:
        """Make the next edit of a stream, by what is remembered of earlier ones; see :meth:`BaseEditor.extend`."""
        if self._place is None:
            raise UserError(f"{type(self).__name__} needs the second moment of its layer: call at(EditSite(…)) first")
        layer, inverse = self._place
        targets = check_edit(params, inputs, targets)
        matched = match_precision(inputs, params, differentiable=False)
        base = state["base"] if state else layer.matrix(params)
        change = state["change"] if state else torch.zeros_like(base)
        inverse = state["inverse"] if state else inverse
        keys, logits, derivatives = layer.derivatives(forward, layer.params(base, params), matched)
        require_classes(*label_range(targets), logits.shape[1])
        rounding = torch.finfo(next(iter(params.values())).dtype).eps
        missing = self._asked(logits, derivatives, targets, rounding).T - change @ keys.T
        gain = keys @ inverse
        factor = torch.linalg.cholesky(gain @ keys.T + torch.eye(len(keys), dtype=keys.dtype, device=keys.device))
        gain = torch.linalg.solve_triangular(factor, gain, upper=False)
        step = torch.linalg.solve_triangular(factor, missing.T, upper=False).T @ gain
        change, inverse = change + step, inverse - gain.T @ gain
        edited = layer.params(base + change, params)
        with torch.no_grad():
            logits = forward(matched, edited)
        right = is_predicted(logits, targets)
        warn_of_missed(right)
        result = EditResult(
            edited, self.objective(logits, targets), right.all(), (step != 0).any().to(targets.device, torch.int64)
        )
        return result, {"base": base, "change": change, "inverse": inverse}

    def _asked(self, logits: Tensor, derivatives: Tensor, targets: Tensor, rounding: float) -> Tensor:
        """Return the asked changes of the layer's output, [N, o], of logits [N, C] and their derivatives [N, C, o].

        What a derivative has by rounding of the network alone, relative to the largest there, is none: behind a
        log-softmax, for one, the logits do not depend on the mean of the layer's output.
        """
        own = logits.gather(1, targets[:, None])
        others = logits.scatter(1, targets[:, None], -torch.inf).amax(dim=1, keepdim=True)
        rise = torch.zeros_like(logits).scatter(1, targets[:, None], (self.margin + others - own).clamp(min=0))
        if torch.equal(derivatives, derivatives[:1].expand_as(derivatives)):
            derivatives = derivatives[:1]  # linear behind the layer, or one sample
            if torch.equal(derivatives[0], torch.eye(*derivatives.shape[1:]).to(derivatives)):
                return rise  # the layer's output is the logits
        inverse = torch.linalg.pinv(derivatives, rtol=max(derivatives.shape[1:]) * rounding)
        return (inverse @ rise[:, :, None]).squeeze(2)
