"""Adam, with ε inside the root."""

from collections.abc import Mapping

from torch import Tensor

from editable.editing.rules.decay_rule import DecayRule
from editable.editing.rules.update_rule import Params, State, step_count, zeros_like
from editable.errors import require_not_negative, require_within

__all__ = ["Adam"]


class Adam(DecayRule):
    """Adam with bias correction, ε inside the root: θ ← θ − α·m̂/√(v̂+ε).

    m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ). With ε inside the root the rule is
    differentiable at g = 0; :class:`torch.optim.Adam` has it outside, which is the same for ε = 0.

    Args:
        learning_rate: Step size α > 0.
        decay: β₁ in [0, 1), the decay of the mean.
        square_decay: β₂ in [0, 1), the decay of the mean square.
        epsilon: ε inside the root, so the square of what :class:`torch.optim.Adam` calls ε.
        learn_learning_rate: Train α with the network.
        learn_decay: Train β₁ with the network.
    """

    def __init__(
        self,
        learning_rate: float,
        decay: float = 0.9,
        square_decay: float = 0.999,
        epsilon: float = 1e-16,
        learn_learning_rate: bool = False,
        learn_decay: bool = False,
    ) -> None:
        super().__init__(learning_rate, decay, learn_learning_rate, learn_decay)
        require_within("[0, 1)", square_decay=square_decay)
        require_not_negative(epsilon=epsilon)
        self.square_decay, self.epsilon = square_decay, epsilon

    def init(self, params: Mapping[str, Tensor]) -> State:
        """Return zero moments and step count."""
        return {"mean": zeros_like(params), "square": zeros_like(params), "step": step_count(params)}

    def update(self, grads: Params, state: State, params: Params) -> tuple[Params, State]:
        """See :meth:`UpdateRule.update`."""
        alpha, beta1, beta2, count = self.learning_rate, self.decay, self.square_decay, state["step"]["count"] + 1
        mean = {name: beta1 * m + (1 - beta1) * grads[name] for name, m in state["mean"].items()}
        square = {name: beta2 * v + (1 - beta2) * grads[name].square() for name, v in state["square"].items()}
        mean_correction, square_correction = 1 - beta1**count, 1 - beta2**count
        updated = {
            name: param
            - alpha * (mean[name] / mean_correction) / (square[name] / square_correction + self.epsilon).sqrt()
            for name, param in params.items()
        }
        return updated, {"mean": mean, "square": square, "step": {"count": count}}
