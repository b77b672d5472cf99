"""Fine-tuning within a ball: an update rule whose every step is projected back to where the edit, or stream, began."""

import copy
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from editable.editing.editors.base import ForwardFunction, Inputs
from editable.editing.editors.editor import Editor
from editable.editing.editors.result import EditResult
from editable.editing.rules.update_rule import Params, State, UpdateRule
from editable.errors import UserError, require_positive

__all__ = ["BallEditor", "BallNorm"]

BallNorm = Literal["l2", "linf"]
"""Of the change: the root of its sum of squares over all edited tensors together, or its largest entry."""


class BallEditor(Editor):
    r"""Repeats an update rule and, after each step, goes to the nearest point of a ball around the first parameters.

    .. math:: θ ← c + (θ - c) \min(1, r / ‖θ - c‖_2) \quad\text{or}\quad θ ← \min(\max(θ, c - r), c + r)

    for L2, with one norm over all edited tensors, and L∞. The centre c is where the edit begins; in a stream, where the
    first edit began, so that all edits together stay within the ball. (Zhu et al. 2020, "Modifying memories in
    transformer models".) Where the rule stays inside, it is :class:`~editable.editing.Editor`, with strict success: an
    edit that needs a larger change fails, and its parameters lie within the ball all the same.

    Args:
        rule: The update rule.
        radius: r > 0, in units of the parameters.
        norm: ``l2`` or ``linf``.

    Raises:
        UserError: If the radius is not positive, or the norm is another one.
    """

    def __init__(
        self, rule: UpdateRule, radius: float, norm: BallNorm = "l2", max_steps: int = 10, margin: float = 0.0
    ) -> None:
        super().__init__(rule, max_steps, margin)
        require_positive(radius=radius)
        if norm not in get_args(BallNorm):
            raise UserError(f"norm must be one of {', '.join(get_args(BallNorm))}, got {norm!r}")
        self.radius, self.norm = radius, norm
        self.objective.strict = True
        self._centre: Params | None = None

    def extend(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        state: Mapping[str, Tensor],
    ) -> tuple[EditResult, dict[str, Tensor]]:
        """Make the next edit of a stream, within the ball around its beginning; see :meth:`BaseEditor.extend`.

        The state has the centre's tensors, each by its parameter's name.
        """
        centre = dict(state) if state else {name: param.detach().clone() for name, param in params.items()}
        if centre.keys() != params.keys():
            raise UserError(
                f"this stream began with {', '.join(sorted(centre))}, and {', '.join(sorted(params))} cannot follow: "
                "edit the same parameters"
            )
        editor = copy.copy(self)
        editor._centre = centre
        return editor(forward, params, inputs, targets), centre

    def rank_of_change(self, num_samples: int) -> int | None:
        """Return the rule's where the norm is L2, whose projection only scales; see :meth:`Editor.rank_of_change`."""
        return super().rank_of_change(num_samples) if self.norm == "l2" else None

    def _init(self, params: Params) -> State:
        return {"centre": params if self._centre is None else self._centre, **super()._init(params)}

    def _update(self, grads: Params, state: State, params: Params) -> tuple[Params, State]:
        moved, following = super()._update(grads, state, params)
        return self._project(moved, state["centre"]), {**following, "centre": state["centre"]}

    def _project(self, params: Params, centre: Params) -> Params:
        if self.norm == "linf":
            return {
                name: torch.minimum(torch.maximum(param, centre[name] - self.radius), centre[name] + self.radius)
                for name, param in params.items()
            }
        square = torch.stack([(param - centre[name]).square().sum() for name, param in params.items()]).sum()
        limit = self.radius**2
        scale = self.radius * square.clamp(min=limit).rsqrt()
        return {
            name: torch.where(square > limit, centre[name] + scale * (param - centre[name]), param)
            for name, param in params.items()
        }
