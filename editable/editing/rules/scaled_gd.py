"""Gradient descent by steps of fixed length."""

import torch

from editable.editing.rules.update_rule import Params, State, UpdateRule
from editable.errors import require_not_negative

__all__ = ["ScaledGD"]


class ScaledGD(UpdateRule):
    """Gradient descent by a step of fixed length, θ ← θ − αg/‖g‖, with one norm over all edited tensors.

    Args:
        learning_rate: Length α > 0 of a step.
        learn_learning_rate: Train α with the network.
        epsilon: Added to ‖g‖² under the root, so that a zero gradient has a finite derivative.
    """

    adds_gradients = True

    def __init__(self, learning_rate: float, learn_learning_rate: bool = False, epsilon: float = 1e-12) -> None:
        super().__init__(learning_rate, learn_learning_rate)
        require_not_negative(epsilon=epsilon)
        self.epsilon = epsilon

    def update(self, grads: Params, state: State, params: Params) -> tuple[Params, State]:
        """See :meth:`UpdateRule.update`."""
        squares = torch.stack([grad.square().sum() for grad in grads.values()])
        scale = self.learning_rate / (squares.sum() + self.epsilon).sqrt()
        return {name: param - scale * grads[name] for name, param in params.items()}, state
