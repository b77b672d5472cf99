"""What update rules with a decay constant share: it may be learnt, and stays between 0 and 1."""

import math

import torch
from torch import Tensor, nn

from editable.editing.rules.update_rule import UpdateRule
from editable.errors import require_within

__all__ = ["DecayRule"]


class DecayRule(UpdateRule):
    """A rule with one decay constant in (0, 1), kept as its logit where it is learnt."""

    def __init__(self, learning_rate: float, decay: float, learn_learning_rate: bool, learn_decay: bool) -> None:
        super().__init__(learning_rate, learn_learning_rate)
        require_within("(0, 1)" if learn_decay else "[0, 1)", decay=decay)  # learnt, it is kept as its logit
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
