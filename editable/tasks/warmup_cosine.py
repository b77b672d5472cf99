"""The learning-rate schedule of long runs: linear warm-up, then half a cosine down to nothing."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from editable.errors import UserError, require_at_least, require_within

__all__ = ["WarmupCosine"]


class WarmupCosine(LambdaLR):
    """Raises the learning rate from a part of it to the whole, then lets it fall as half a cosine to 0.

    η(t) = η·(s + (1 − s)·t/w) for t < w, then η·½(1 + cos(π (t − w)/(T − w))): torch's ``LinearLR`` followed by its
    ``CosineAnnealingLR``, which a configuration cannot put one behind the other (Loshchilov and Hutter, ICLR 2017;
    Goyal et al., 2017).

    Args:
        optimizer: Whose learning rates are set, each group's in proportion to its own.
        length: T, in epochs, or in steps where the task's ``lr_scheduler_interval`` is ``step``.
        warmup: w, likewise; at 0 there is none.
        start: s, with which part of its rate the warm-up begins, in (0, 1].

    Raises:
        UserError: If a number is out of its range.
    """

    def __init__(self, optimizer: Optimizer, length: int, warmup: int = 0, start: float = 0.01) -> None:
        require_at_least(1, length=length)
        require_at_least(0, warmup=warmup)
        require_within("(0, 1]", start=start)
        if warmup >= length:
            raise UserError(f"warmup is {warmup}, but must be less than length, which is {length}")
        self.length, self.warmup, self.start = length, warmup, start
        super().__init__(optimizer, self._factor)

    def _factor(self, done: int) -> float:
        if done < self.warmup:
            return self.start + (1 - self.start) * done / self.warmup
        part = min(1.0, (done - self.warmup) / (self.length - self.warmup))
        return (1 + math.cos(math.pi * part)) / 2
