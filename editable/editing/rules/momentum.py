"""Gradient descent with momentum."""

from collections.abc import Mapping

from torch import Tensor

from editable.editing.rules.decay_rule import DecayRule
from editable.editing.rules.update_rule import Params, State, descend, zeros_like

__all__ = ["Momentum"]


class Momentum(DecayRule):
    """Gradient descent with momentum, m ← μm + g with m₀ = g₀; θ ← θ − αm.

    Args:
        learning_rate: Step size α > 0.
        decay: Momentum μ in [0, 1).
        learn_learning_rate: Train α with the network.
        learn_decay: Train μ with the network.

    See Also:
        :class:`GD`, which is this rule with μ = 0; :class:`torch.optim.SGD`, whose momentum this is.
    """

    adds_gradients = True

    def __init__(
        self, learning_rate: float, decay: float = 0.9, learn_learning_rate: bool = False, learn_decay: bool = False
    ) -> None:
        super().__init__(learning_rate, decay, learn_learning_rate, learn_decay)

    def init(self, params: Mapping[str, Tensor]) -> State:
        """Return m = 0, which makes the first m equal to the first gradient."""
        return {"momentum": zeros_like(params)}

    def update(self, grads: Params, state: State, params: Params) -> tuple[Params, State]:
        """See :meth:`UpdateRule.update`."""
        alpha, mu = self.learning_rate, self.decay
        momentum = {name: mu * m + grads[name] for name, m in state["momentum"].items()}
        updated = {name: descend(param, alpha, momentum[name]) for name, param in params.items()}
        return updated, {"momentum": momentum}
