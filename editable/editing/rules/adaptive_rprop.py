"""Classical RProp: a step size for each weight, which adapts."""

from collections.abc import Mapping

import torch
from torch import Tensor

from editable.editing.rules.update_rule import Params, State, UpdateRule, zeros_like
from editable.errors import UserError, require_finite, require_not_negative, require_within

__all__ = ["AdaptiveRProp"]


class AdaptiveRProp(UpdateRule):
    """Classical RProp: a step size for each weight, grown while the gradient keeps its sign, else shrunk.

    The rule of :class:`torch.optim.Rprop`: a weight whose gradient changes sign is not moved in that update.

    Args:
        learning_rate: First step size of every weight, > 0.
        shrink: Factor on a sign change, in (0, 1).
        grow: Factor where the sign is kept, > 1.
        min_step: Least step size.
        max_step: Largest step size.
        learn_learning_rate: Train the first step size with the network.

    See Also:
        :class:`RProp`, the fixed-step rule of the editable-networks paper.
    """

    def __init__(
        self,
        learning_rate: float,
        shrink: float = 0.5,
        grow: float = 1.2,
        min_step: float = 1e-6,
        max_step: float = 50.0,
        learn_learning_rate: bool = False,
    ) -> None:
        super().__init__(learning_rate, learn_learning_rate)
        require_within("(0, 1)", shrink=shrink)
        require_finite(grow=grow)
        require_not_negative(min_step=min_step, max_step=max_step)
        if grow <= 1:
            raise UserError(f"grow must be above 1, got {grow}")
        if min_step > max_step:
            raise UserError(f"min_step must be at most max_step, which is {max_step}, got {min_step}")
        self.shrink, self.grow, self.min_step, self.max_step = shrink, grow, min_step, max_step

    def init(self, params: Mapping[str, Tensor]) -> State:
        """Return the first step sizes and previous gradients of zero."""
        steps = {name: torch.ones_like(param) * self.learning_rate for name, param in params.items()}
        return {"previous": zeros_like(params), "step_size": steps}

    def update(self, grads: Params, state: State, params: Params) -> tuple[Params, State]:
        """See :meth:`UpdateRule.update`."""
        updated, previous, step_size = {}, {}, {}
        for name, grad in grads.items():
            agreement = (grad * state["previous"][name]).sign()
            factor = torch.ones_like(grad)
            factor = factor.where(agreement <= 0, self.grow).where(agreement >= 0, self.shrink)
            step_size[name] = (state["step_size"][name] * factor).clamp(self.min_step, self.max_step)
            previous[name] = grad.where(agreement >= 0, 0.0)
            updated[name] = params[name] - step_size[name] * previous[name].sign()
        return updated, {"previous": previous, "step_size": step_size}
