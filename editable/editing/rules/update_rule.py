"""The contract of an update rule: a pure function of gradients, state and parameters, with learnable constants."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from editable.errors import require_positive

__all__ = ["Params", "State", "UpdateRule", "descend", "step_count", "zeros_like"]

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

    Attributes:
        adds_gradients: Whether each step is a sum of gradients so far, each times a number, so that the change of a
            linear layer has at most as high a rank as these have together.
    """

    adds_gradients: bool = False

    def __init__(self, learning_rate: float, learn_learning_rate: bool = False) -> None:
        super().__init__()
        require_positive(learning_rate=learning_rate)
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
        require_positive(learning_rate=learning_rate)
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


def descend(param: Tensor, alpha: float | Tensor, direction: Tensor, scale: Tensor | None = None) -> Tensor:
    """Return θ − α·direction, or θ − α·direction·scale, in one pass over memory where α is a number."""
    if isinstance(alpha, Tensor):
        direction, alpha = alpha * direction, 1.0
    if scale is None:
        return torch.sub(param, direction, alpha=alpha)
    return torch.addcmul(param, direction, scale, value=-alpha)


def zeros_like(params: Mapping[str, Tensor]) -> Params:
    """Return a tensor of zeros for each parameter, of its shape, by name."""
    return {name: torch.zeros_like(param) for name, param in params.items()}


def step_count(params: Mapping[str, Tensor]) -> Params:
    """Return a count of zero as a tensor: under vmap every edit has its own, and no branch depends on it.

    It has the parameters' floating type, so that powers like β^count keep their precision.
    """
    first = next(iter(params.values()))
    return {"count": torch.zeros((), dtype=first.dtype, device=first.device)}
