"""RMSProp, the published editor of editable training."""

from collections.abc import Mapping

import torch
from torch import Tensor

from editable.editing.rules.decay_rule import DecayRule
from editable.editing.rules.update_rule import Params, State, descend, step_count, zeros_like
from editable.errors import require_not_negative

__all__ = ["RMSProp"]


class RMSProp(DecayRule):
    """RMSProp, s₀ = g₀², s ← βs + (1−β)g²; θ ← θ − αg/√(s+ε), the published editor of editable training.

    Unlike :class:`torch.optim.RMSprop`, s starts at the first squared gradient rather than at zero and ε stands
    inside the root, where the derivative at g = 0 is finite. The second-order graph through s is kept.

    Args:
        learning_rate: Step size α > 0.
        decay: β in [0, 1).
        epsilon: ε inside the root.
        learn_learning_rate: Train α with the network.
        learn_decay: Train β with the network.
    """

    def __init__(
        self,
        learning_rate: float,
        decay: float = 0.5,
        epsilon: float = 1e-6,
        learn_learning_rate: bool = False,
        learn_decay: bool = False,
    ) -> None:
        super().__init__(learning_rate, decay, learn_learning_rate, learn_decay)
        require_not_negative(epsilon=epsilon)
        self.epsilon = epsilon

    def init(self, params: Mapping[str, Tensor]) -> State:
        """Return s = 0 and a step count that tells the first update from the others."""
        return {"square": zeros_like(params), "step": step_count(params)}

    def update(self, grads: Params, state: State, params: Params) -> tuple[Params, State]:
        """See :meth:`UpdateRule.update`."""
        count = state["step"]["count"]
        alpha, beta = self.learning_rate, self.decay * (count > 0).to(count.dtype)  # at the first update s = g²
        updated, square = {}, {}
        for name, grad in grads.items():  # one parameter after the other, so that it is still in the cache
            square[name] = torch.lerp(grad.square(), state["square"][name], beta)
            scale = (square[name] + self.epsilon).rsqrt_()
            updated[name] = descend(params[name], alpha, grad, scale)
        return updated, {"square": square, "step": {"count": count + 1}}
