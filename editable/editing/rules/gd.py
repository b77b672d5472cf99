"""Gradient descent, the simplest update rule."""

from editable.editing.rules.update_rule import Params, State, UpdateRule, descend

__all__ = ["GD"]


class GD(UpdateRule):
    """Gradient descent, θ ← θ − αg.

    Args:
        learning_rate: Step size α > 0.
        learn_learning_rate: Train α with the network.
    """

    adds_gradients = True

    def update(self, grads: Params, state: State, params: Params) -> tuple[Params, State]:
        """See :meth:`UpdateRule.update`."""
        return {name: descend(param, self.learning_rate, grads[name]) for name, param in params.items()}, state
