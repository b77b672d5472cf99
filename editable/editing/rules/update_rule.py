"""Update rules of the Edit operation: pure functions of gradients, state and parameters, with learnable constants."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from editable.errors import UserError

__all__ = ["GD", "Adam", "AdaptiveRProp", "Momentum", "Params", "RMSProp", "RProp", "ScaledGD", "State", "UpdateRule"]

Params: TypeAlias = dict[str, Tensor]
"""Parameters, or gradients, by name."""

State: TypeAlias = dict[str, Params]
"""What a rule remembers between two updates: named slots, each with tensors by parameter name (or a step count)."""


class UpdateRule(nn.Module, ABC):
    """A rule that turns gradients into the next parameters.

    A rule is a pure pair: :meth:`init` gives the state before the first update, :meth:`update` maps gradients, state
    and parameters to the next parameters and state. Both are out of place and built from differentiable tensor
    operations without branches on values, so that one rule serves training (differentiated through all its steps)
    and evaluation (``torch.func.vmap`` over many edits).

    Args:
        learning_rate: Step size α > 0.
        learn_learning_rate: Train α with the network. It is kept as log α, so that it stays positive and one
            optimizer step changes it by a relative amount.

    Raises:
        UserError: If the learning rate is not positive.
    """

    def __init__(self, learning_rate: float, learn_learning_rate: bool = False) -> None:
        super().__init__()
        _check_learning_rate(learning_rate)
        self._learning_rate = learning_rate
        self.log_learning_rate = nn.Parameter(torch.tensor(math.log(learning_rate))) if learn_learning_rate else None

    @property
    def learning_rate(self) -> float | Tensor:
        """The step size α: a number, or a scalar tensor with a gradient where it is learnt."""
        return self._learning_rate if self.log_learning_rate is None else self.log_learning_rate.exp()

    def with_learning_rate(self, learning_rate: float) -> "UpdateRule":
        """Return a copy of this rule with another step size, which is no longer learnt.

        Raises:
            UserError: If the learning rate is not positive.
        """
        _check_learning_rate(learning_rate)
        rule = copy.deepcopy(self)
        rule._learning_rate, rule.log_learning_rate = learning_rate, None
        return rule

    def init(self, params: Mapping[str, Tensor]) -> State:
        """Return the state before the first update; rules without memory have an empty one."""
        return {}

    @abstractmethod
    def update(self, grads: Params, state: State, params: Params) -> tuple[Params, State]:
        """Return the parameters and the state after one update.

        Args:
            grads: g = ∇l_e by parameter name, shaped like ``params``.
            state: What :meth:`init` or the last update returned.
            params: The parameters θ before the update, by name.
        """

    @torch.no_grad()
    def extra_repr(self) -> str:
        """Show the present learning rate."""
        return f"learning_rate={float(self.learning_rate):.4g}"


class GD(UpdateRule):
    """Gradient descent, θ ← θ − αg.

    Args:
        learning_rate: Step size α > 0.
        learn_learning_rate: Train α with the network.
    """

    def update(self, grads: Params, state: State, params: Params) -> tuple[Params, State]:
        """See :meth:`UpdateRule.update`."""
        return {name: _descend(param, self.learning_rate, grads[name]) for name, param in params.items()}, state


class ScaledGD(UpdateRule):
    """Gradient descent by a step of fixed length, θ ← θ − αg/‖g‖, with one norm over all edited tensors.

    Args:
        learning_rate: Length α > 0 of a step.
        learn_learning_rate: Train α with the network.
        epsilon: Added to ‖g‖² under the root, so that a zero gradient has a finite derivative.
    """

    def __init__(self, learning_rate: float, learn_learning_rate: bool = False, epsilon: float = 1e-12) -> None:
        super().__init__(learning_rate, learn_learning_rate)
        self.epsilon = epsilon

    def update(self, grads: Params, state: State, params: Params) -> tuple[Params, State]:
        """See :meth:`UpdateRule.update`."""
        squares = torch.stack([grad.square().sum() for grad in grads.values()])
        scale = self.learning_rate / (squares.sum() + self.epsilon).sqrt()
        return {name: param - scale * grads[name] for name, param in params.items()}, state


class _DecayRule(UpdateRule):
    """A rule with one decay constant in (0, 1), kept as its logit where it is learnt."""

    def __init__(self, learning_rate: float, decay: float, learn_learning_rate: bool, learn_decay: bool) -> None:
        super().__init__(learning_rate, learn_learning_rate)
        if not 0 <= decay < 1 or (learn_decay and decay == 0):
            interval = "strictly between 0 and 1 to be learnt" if learn_decay else "in [0, 1)"
            raise UserError(f"the decay of {type(self).__name__} must lie {interval}, got {decay}")
        self._decay = decay
        self.logit_decay = nn.Parameter(torch.tensor(math.log(decay / (1 - decay)))) if learn_decay else None

    @property
    def decay(self) -> float | Tensor:
        """The decay: a number, or a scalar tensor with a gradient where it is learnt."""
        return self._decay if self.logit_decay is None else self.logit_decay.sigmoid()

    @torch.no_grad()
    def extra_repr(self) -> str:
        """Show the present learning rate and decay."""
        return f"{super().extra_repr()}, decay={float(self.decay):.4g}"


class Momentum(_DecayRule):
    """Gradient descent with momentum, m ← μm + g with m₀ = g₀; θ ← θ − αm.

    Args:
        learning_rate: Step size α > 0.
        decay: Momentum μ in [0, 1).
        learn_learning_rate: Train α with the network.
        learn_decay: Train μ with the network.

    See Also:
        :class:`GD`, which is this rule with μ = 0; :class:`torch.optim.SGD`, whose momentum this is.
    """

    def __init__(
        self, learning_rate: float, decay: float = 0.9, learn_learning_rate: bool = False, learn_decay: bool = False
    ) -> None:
        super().__init__(learning_rate, decay, learn_learning_rate, learn_decay)

    def init(self, params: Mapping[str, Tensor]) -> State:
        """Return m = 0, which makes the first m equal to the first gradient."""
        return {"momentum": _zeros_like(params)}

    def update(self, grads: Params, state: State, params: Params) -> tuple[Params, State]:
        """See :meth:`UpdateRule.update`."""
        alpha, mu = self.learning_rate, self.decay
        momentum = {name: mu * m + grads[name] for name, m in state["momentum"].items()}
        updated = {name: _descend(param, alpha, momentum[name]) for name, param in params.items()}
        return updated, {"momentum": momentum}


class RMSProp(_DecayRule):
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
        self.epsilon = epsilon

    def init(self, params: Mapping[str, Tensor]) -> State:
        """Return s = 0 and a step count that tells the first update from the others."""
        return {"square": _zeros_like(params), "step": _step_count(params)}

    def update(self, grads: Params, state: State, params: Params) -> tuple[Params, State]:
        """See :meth:`UpdateRule.update`."""
        count = state["step"]["count"]
        alpha, beta = self.learning_rate, self.decay * (count > 0).to(count.dtype)  # at the first update s = g²
        updated, square = {}, {}
        for name, grad in grads.items():  # one parameter after the other, so that it is still in the cache
            square[name] = torch.lerp(grad.square(), state["square"][name], beta)
            scale = (square[name] + self.epsilon).rsqrt_()
            updated[name] = _descend(params[name], alpha, grad, scale)
        return updated, {"square": square, "step": {"count": count + 1}}


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
        if not 0 < shrink < 1 < grow:
            raise UserError(f"AdaptiveRProp needs 0 < shrink < 1 < grow, got shrink={shrink} and grow={grow}")
        if not 0 <= min_step <= max_step:
            raise UserError(f"AdaptiveRProp needs 0 ≤ min_step ≤ max_step, got {min_step} and {max_step}")
        self.shrink, self.grow, self.min_step, self.max_step = shrink, grow, min_step, max_step

    def init(self, params: Mapping[str, Tensor]) -> State:
        """Return the first step sizes and previous gradients of zero."""
        steps = {name: torch.ones_like(param) * self.learning_rate for name, param in params.items()}
        return {"previous": _zeros_like(params), "step_size": steps}

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


class Adam(_DecayRule):
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
        if not 0 <= square_decay < 1:
            raise UserError(f"square_decay of Adam must lie in [0, 1), got {square_decay}")
        self.square_decay, self.epsilon = square_decay, epsilon

    def init(self, params: Mapping[str, Tensor]) -> State:
        """Return zero moments and step count."""
        return {"mean": _zeros_like(params), "square": _zeros_like(params), "step": _step_count(params)}

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


def _descend(param: Tensor, alpha: float | Tensor, direction: Tensor, scale: Tensor | None = None) -> Tensor:
    """Return θ − α·direction, or θ − α·direction·scale, in one pass over memory where α is a number."""
    if isinstance(alpha, Tensor):
        direction, alpha = alpha * direction, 1.0
    if scale is None:
        return torch.sub(param, direction, alpha=alpha)
    return torch.addcmul(param, direction, scale, value=-alpha)


def _check_learning_rate(learning_rate: float) -> None:
    if not learning_rate > 0:
        raise UserError(f"the learning rate of an update rule must be positive, got {learning_rate}")


def _zeros_like(params: Mapping[str, Tensor]) -> Params:
    return {name: torch.zeros_like(param) for name, param in params.items()}


def _step_count(params: Mapping[str, Tensor]) -> Params:
    """Return a count of zero as a tensor: under vmap every edit has its own, and no branch depends on it.

    It has the parameters' floating type, so that powers like β^count keep their precision.
    """
    first = next(iter(params.values()))
    return {"count": torch.zeros((), dtype=first.dtype, device=first.device)}
