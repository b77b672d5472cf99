"""Gradient descent as the iterating solvers share it: the learning rate is cut where the loss rests, the best kept."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from editable.errors import UserError, require_at_least, require_positive, require_within
from editable.models.machine.devices import steps_between_looks
from editable.rewriting.solvers.base import Progress, Solver
from editable.rewriting.solvers.plateau import Plateau

__all__ = ["Descent"]

CUT = 0.1  # factor on the learning rate at a plateau


class Descent(Solver):
    """A solver that follows a gradient until its loss has come to rest.

    At a plateau of the loss (see :class:`editable.rewriting.Plateau`) the descent goes back to the best so far and goes
    on from there with a tenth of the learning rate; after ``cuts`` such cuts, the next plateau ends it. It also ends
    after ``max_steps`` updates, and where the loss is zero but for rounding. The best is returned, which may be the
    start: a learning rate that is too high never leaves a rewrite that is worse than none. A loss that is no longer
    finite is an error. On an accelerator losses are looked at after every 16 updates, so that whatever they decide
    comes up to 15 updates later than on a CPU.

    Args:
        learning_rate: At the beginning, > 0.
        max_steps: Largest number of updates.
        patience: Number of updates in each of the two windows that are compared; with none, ``max_steps`` updates are
            made at a fixed learning rate.
        tolerance: Relative fall of the mean loss from one window to the next that is too small to go on.
        cuts: How often the learning rate is cut.

    Raises:
        UserError: If a number is out of its range.
    """

    _noisy = False
    """Whether single losses are too random to be compared, so that the last values are kept in place of the best."""

    def __init__(self, learning_rate: float, max_steps: int, patience: int | None, tolerance: float, cuts: int) -> None:
        require_positive(learning_rate=learning_rate)
        require_at_least(0, max_steps=max_steps, cuts=cuts)
        require_at_least(1, patience=patience)
        require_within("[0, 1)", tolerance=tolerance)
        self.learning_rate, self.max_steps = learning_rate, max_steps
        self.patience, self.tolerance, self.cuts = patience, tolerance, cuts

    def _descend(
        self,
        variables: Sequence[Tensor],
        objective: Callable[[], Tensor],
        progress: Progress | None,
        project: Callable[[], None] | None = None,
        project_every: int = 1,
    ) -> list[float]:
        """Change variables in place until the objective rests.

        Args:
            variables: Leaves of the objective's graph.
            objective: Computes the loss from the variables' present values.
            progress: See :class:`Solver`.
            project: Puts the variables, in place, back to where they may be. Only projected values are compared and
                kept.
            project_every: Number of updates between two projections; the last update is projected too.

        Returns:
            The losses after 0, 1, … updates.
        """
        rate, cuts = self.learning_rate, self.cuts
        optimizer = self._optimizer(variables, rate)
        plateau = None if self.patience is None else Plateau(max(1, self.patience // project_every), self.tolerance)
        look_every = steps_between_looks(variables[0].device)
        best = _Best(variables)
        losses: list[float] = []
        unseen: list[Tensor] = []
        for step in range(self.max_steps + 1):
            loss = objective()
            unseen.append(loss.detach())
            if step % project_every == 0 or step == self.max_steps:
                best.update(loss.detach())
            if (step + 1) % look_every == 0 or step == self.max_steps:
                rests = at_plateau = False
                for value in torch.stack(unseen).tolist():  # the one wait
                    number = len(losses)
                    losses.append(self._check(value, number, rate))
                    if progress is not None:
                        progress(number, value)
                    if number % project_every == 0 or number == self.max_steps:
                        rests |= value <= torch.finfo(loss.dtype).eps * losses[0]
                        at_plateau = at_plateau or (plateau is not None and plateau.update(value))
                unseen = []
                if rests or step == self.max_steps:
                    break
                if at_plateau and plateau is not None:
                    if cuts == 0:
                        break
                    rate, cuts = rate * CUT, cuts - 1
                    optimizer = self._optimizer(variables, rate)
                    plateau.reset()
                    if not self._noisy:
                        best.restore()
                        loss = objective()
            gradients = torch.autograd.grad(loss, variables, materialize_grads=True)
            for variable, gradient in zip(variables, gradients, strict=True):
                variable.grad = gradient
            optimizer.step()
            if project is not None and ((step + 1) % project_every == 0 or step + 1 == self.max_steps):
                project()
        if not self._noisy:
            best.restore()
        return losses

    def _optimizer(self, variables: Sequence[Tensor], rate: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(variables, rate)

    def _check(self, loss: float, step: int, rate: float) -> float:
        if math.isfinite(loss):
            return loss
        if step == 0:
            raise UserError(
                f"the loss of {type(self).__name__} is {loss} before the first update: look at the weights of the "
                "network, and at the exemplars"
            )
        raise UserError(
            f"the loss of {type(self).__name__} has become {loss} after {step} updates: lower its learning rate, now "
            f"{rate:g}"
        )


class _Best:
    """The variables' values of least loss so far, kept without asking the device whether a loss is less."""

    def __init__(self, variables: Sequence[Tensor]) -> None:
        self.variables, self.loss = variables, torch.tensor(math.inf)
        self.values = [variable.detach().clone() for variable in variables]

    def update(self, loss: Tensor) -> None:
        better = loss < self.loss  # at first of a number on the CPU, which any device takes
        self.loss = torch.where(better, loss, self.loss)
        for value, variable in zip(self.values, self.variables, strict=True):
            value.copy_(torch.where(better, variable.detach(), value))

    def restore(self) -> None:
        with torch.no_grad():
            for value, variable in zip(self.values, self.variables, strict=True):
                variable.copy_(value)
