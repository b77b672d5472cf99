"""Sign descent: RProp with a fixed step."""

from editable.editing.rules.update_rule import Params, State, UpdateRule

__all__ = ["RProp"]


class RProp(UpdateRule):
    """Sign descent, θ ← θ − α·sign(g): RProp as the editable-networks paper uses it, with a fixed step.

    Its second-order gradient is zero, rightly: the sign of a gradient does not move with the parameters.

    Args:
        learning_rate: Step size α > 0.
        learn_learning_rate: Train α with the network.

    See Also:
        :class:`AdaptiveRProp`, the classical rule with a step size for each weight.
    """

    def update(self, grads: Params, state: State, params: Params) -> tuple[Params, State]:
        """See :meth:`UpdateRule.update`."""
        alpha = self.learning_rate
        return {name: param - alpha * grads[name].sign() for name, param in params.items()}, state
