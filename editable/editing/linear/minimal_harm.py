"""The smallest change of a linear layer that gives all edited samples their labels: a convex program, in its dual."""

import copy
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
from editable.editing.linear.label_constraints import TOLERANCE, ActiveSet, LabelConstraints
from editable.editing.linear.linear_layer import LinearLayer, warn_of_missed
from editable.errors import UserError, require_at_least, require_not_negative, require_positive
from editable.rewriting import InverseMoment, Regularisation

__all__ = ["MinimalHarmEditor"]

MOST_HALVINGS = 5  # of a step that leads nowhere


class MinimalHarmEditor(BaseEditor):
    r"""Changes one linear layer as little as other images notice, so that each edited sample gets its label.

    .. math:: \min_Δ \tfrac12 \operatorname{tr}(Δ Σ Δ^\top) \quad\text{such that}\quad
        u_{ij}^\top Δ k_i ≥ m - (z_{i y_i} - z_{ij}) \quad\text{for each sample } i \text{ and class } j ≠ y_i

    with keys k of second moment Σ, logits z, and u_ij the derivative of z_{iy} − z_ij by the layer's output:
    e_y − e_j where this is the logits. The objective is half the mean square of what the change does to the layer's
    output on other images. Its dual has a nonnegative multiplier α for each constraint,

    .. math:: \max_{α ≥ 0} α^\top g - \tfrac12 α^\top K α, \quad K_{(ij),(i'j')} = u_{ij}^\top u_{i'j'} \;
        k_i^\top Σ^{-1} k_{i'}, \quad Δ = \sum_{ij} α_{ij} u_{ij} (Σ^{-1} k_i)^\top

    a multi-class support vector machine in the metric Σ⁻¹: constraints enter as they are violated, few are active, and
    there is no learning rate. Behind the layer the network is taken to be linear, and that again where the change has
    led, until the labels are there: one step where it is linear, as for ``fc`` or the last matrix of an extra layer.
    A step that gains nothing gives way to the smallest further change, halved until that gains; behind functions that
    saturate, labels may stay out of reach, which a warning says.

    In a stream the program is that of all edits so far, from the unedited weights, so that earlier ones hold on.

    Args:
        max_steps: Largest number of linearisations.
        margin: m, by how much, in logits, the asked label leads all others.
        softness: Gives way where asked labels contradict each other: what is added to K's diagonal, relative to its
            mean, so that a margin is missed by as much times α; 0 asks for exactness.
        epsilon: Added to each eigenvalue of Σ, relative to their mean.
        num_references: Number of images, neither edited nor judged, over which Σ is collected.

    Raises:
        UserError: If a number is out of its range; at a place whose editable layers are not one linear layer.
    """

    def __init__(
        self,
        max_steps: int = 10,
        margin: float = 0.1,
        softness: float = 1e-8,
        epsilon: float = 1e-4,
        num_references: int = 10_000,
    ) -> None:
        super().__init__(max_steps, margin)
        require_positive(margin=margin)
        require_not_negative(softness=softness, epsilon=epsilon)
        require_at_least(1, max_steps=max_steps, num_references=num_references)
        self.softness, self.epsilon, self.num_references = softness, epsilon, num_references
        self._place: tuple[LinearLayer, InverseMoment] | None = None

    def at(self, site: EditSite) -> "MinimalHarmEditor":
        """Return the editor with the second moment of what the layer reads; see :meth:`BaseEditor.at`."""
        layer = LinearLayer(site.split)
        editor = copy.copy(self)
        moment = layer.second_moment(site, self.num_references)
        editor._place = layer, InverseMoment(moment, Regularisation(epsilon=self.epsilon))
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
        targets = check_edit(params, inputs, targets)
        return self.extend(forward, params, inputs, targets, {})[0]

    def extend(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        state: Mapping[str, Tensor],
    ) -> tuple[EditResult, dict[str, Tensor]]:
        """Make the next edit of a stream: solve for all samples so far; see :meth:`BaseEditor.extend`."""
        layer, inverse = self._require_place()
        targets = check_edit(params, inputs, targets)
        matched = match_precision(inputs, params, differentiable=False)
        own = (matched,) if isinstance(matched, Tensor) else matched
        base = state["base"] if state else layer.matrix(params)
        asked = torch.cat([state["targets"], targets]) if state else targets
        samples = tuple(torch.cat([state[f"input{place}"], some]) if state else some for place, some in enumerate(own))
        together = samples if isinstance(matched, tuple) else samples[0]
        active = ActiveSet(state["active"], state["inverse"]) if state else ActiveSet.empty(targets.device)
        whitened = state["whitened"] if state else torch.zeros(0, layer.key_size, dtype=torch.float64)
        matrix = layer.matrix(params)
        for step in range(self.max_steps + 1):
            current = layer.params(matrix, params)
            keys, logits, derivatives = layer.derivatives(forward, current, together)
            if step == 0:
                require_classes(*label_range(asked), logits.shape[1])
                fresh = inverse.whiten(keys[-len(targets) :].T).T  # the layer's own weights change no key
                whitened = torch.cat([whitened.to(fresh), fresh])
            # The margin is what the program asks for; half of it is enough of what it leads to behind other layers.
            enough, leads = self.margin * (1 - TOLERANCE if step == 0 else 0.5), _leads(logits, asked)
            if bool((leads >= enough).all()) or step == self.max_steps:
                break
            if torch.equal(derivatives, derivatives[:1].expand_as(derivatives)):
                derivatives = derivatives[:1]  # linear behind the layer, or one sample
            program = LabelConstraints(logits, derivatives, keys, whitened, asked)

            def missing(logits: Tensor) -> float:
                return float((self.margin - _leads(logits, asked)).clamp(min=0).sum())

            @torch.no_grad()
            def gains(reached: Tensor, before: float = missing(logits)) -> bool:
                return missing(forward(together, layer.params(reached, params))) < before

            for origin in (base, matrix):
                some = program.seen_from(matrix - origin)
                change, active = some.solve(active, self.margin, self.softness, inverse)
                reached = origin + change
                if len(derivatives) == 1 < len(asked) or gains(reached):
                    break
            else:
                for _ in range(MOST_HALVINGS):
                    reached = (matrix + reached) / 2
                    if gains(reached):
                        break
            if torch.allclose(reached, matrix, rtol=0, atol=1e-9 * float((reached - base).abs().max())):
                break  # it has given all that there is
            matrix = reached
        right = is_predicted(logits, asked)
        warn_of_missed(right)
        latest = slice(len(asked) - len(targets), None)
        result = EditResult(
            current,
            self.objective(logits[latest], targets),
            right[latest].all(),
            torch.tensor(step, device=targets.device),
        )
        inputs_kept = {f"input{place}": some for place, some in enumerate(samples)}
        return result, {
            "base": base,
            "targets": asked,
            "active": active.pairs,
            "inverse": active.inverse,
            "whitened": whitened,
            **inputs_kept,
        }

    def rank_of_change(self, num_samples: int) -> int:
        """Return the number of samples: each adds a multiple of (Σ⁻¹k)ᵀ to rows; see :class:`BaseEditor`."""
        return num_samples

    def _require_place(self) -> tuple[LinearLayer, InverseMoment]:
        if self._place is None:
            raise UserError("MinimalHarmEditor needs the second moment of its layer: call at(EditSite(…)) first")
        return self._place


def _leads(logits: Tensor, labels: Tensor) -> Tensor:
    """Return by how much each label leads the best other one, [N]."""
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
    return logits.gather(1, labels[:, None]).flatten() - others
