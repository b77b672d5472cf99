"""Descent on what a function is given until it returns a wanted value: the best of several random starts is kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from editable.errors import UserError, require_at_least, require_positive, require_seed
from editable.models.machine.devices import steps_between_looks

__all__ = ["Bounds", "Reconstruction", "ReconstructionSettings", "Watch", "reconstruct"]

Bounds: TypeAlias = tuple[float | None, float | None]
"""Least and greatest value of each entry of what is looked for; none leaves a side open."""

Watch: TypeAlias = Callable[[Tensor], Mapping[str, Tensor]]
"""Distances of the present inputs [R·n, …] of all restarts, by name, each [R·n]; items run fastest."""


@dataclass(frozen=True)
class ReconstructionSettings:
    """How a descent goes: Adam, its learning rate annealed to zero along a cosine.

    Args:
        num_steps: Number of updates.
        learning_rate: Of Adam at the beginning, in units of what is looked for.
        restarts: Number of random starts, of which the best is kept.
        seed: Of the starts. More restarts with the same seed begin with the same starts.
        record_every: Number of updates between two records of distances; the start and the end are recorded always.

    Raises:
        UserError: If a number is out of its range.
    """

    num_steps: int = 300
    learning_rate: float = 0.1
    restarts: int = 2
    seed: int = 0
    record_every: int = 10

    def __post_init__(self) -> None:
        """Check what is given."""
        require_at_least(1, num_steps=self.num_steps, restarts=self.restarts, record_every=self.record_every)
        require_seed(seed=self.seed)
        require_positive(learning_rate=self.learning_rate)


class Reconstruction(NamedTuple):
    r"""What was found for n targets, each by the best of its restarts.

    The loss of an item is the squared error relative to its target, :math:`\lVert F(x) - T\rVert^2 / \lVert T\rVert^2`
    (absolute where T = 0).

    Attributes:
        found: What was found, [n, …].
        losses: After 0, 1, … updates, float64 [num_steps + 1, n].
        recorded: After how many updates distances were recorded, int64 [T].
        watched: The recorded distances by name, float64 [T, n].
        final_losses: Of all restarts, float64 [R, n].
    """

    found: Tensor
    losses: Tensor
    recorded: Tensor
    watched: dict[str, Tensor]
    final_losses: Tensor

    @property
    def loss_ratios(self) -> Tensor:
        """How many times smaller the loss is at the end than at the start, as far as float64 tells, [n]."""
        least = torch.finfo(torch.float64).eps * self.losses[0]
        return self.losses[0] / torch.maximum(self.losses[-1], least)

    def items(self, chosen: slice) -> "Reconstruction":
        """Return what was found for some of the targets."""
        return Reconstruction(
            self.found[chosen],
            self.losses[:, chosen],
            self.recorded,
            {name: distances[:, chosen] for name, distances in self.watched.items()},
            self.final_losses[:, chosen],
        )


def reconstruct(
    function: Callable[[Tensor], Tensor],
    targets: Tensor,
    starts: Tensor,
    settings: ReconstructionSettings,
    bounds: Bounds = (None, None),
    penalty: Callable[[Tensor], Tensor] | None = None,
    watch: Watch | None = None,
    progress: Callable[[int], object] = lambda steps: None,
) -> Reconstruction:
    """Look for inputs whose outputs are as wanted, all items and restarts at once.

    Items do not influence one another. After each update the inputs are put back between their bounds. The restart
    whose loss, with the penalty, is least at the end is kept.

    Args:
        function: From inputs [N, …] to outputs [N, …], row by row.
        targets: T, the wanted outputs, [n, …].
        starts: Where to begin, [R, n, …].
        settings: Of the descent.
        bounds: Of the inputs' entries.
        penalty: Added to the loss of each item, [N, …] → [N], such as a weighted total variation.
        watch: What is recorded besides the loss.
        progress: Called with the number of updates since the last call.

    Raises:
        UserError: If there is no start for each target, targets are not finite or of a shape that the function does not
            return for such inputs, or the loss is no longer finite.
    """
    if starts.ndim < 2 or not starts.numel() or starts.shape[1] != len(targets):
        raise UserError(f"starts must be [restarts, {len(targets)}, …], at least one of them, got {list(starts.shape)}")
    restarts, count = starts.shape[:2]
    variable = starts.detach().flatten(0, 1).clone().requires_grad_()
    wanted = _checked(function, targets.detach(), variable).repeat(restarts, *[1] * (targets.ndim - 1))
    lengths = wanted.flatten(1).square().sum(dim=1)
    lengths = torch.where(lengths > 0, lengths, torch.ones_like(lengths))
    optimizer = torch.optim.Adam([variable], settings.learning_rate)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.num_steps)
    look_every = steps_between_looks(variable.device)
    losses, recorded, watched = [], [], []
    finite = torch.ones((), dtype=torch.bool, device=variable.device)
    for step in range(settings.num_steps + 1):
        with torch.enable_grad(), torch.autocast(variable.device.type, enabled=False):
            loss = (function(variable) - wanted).flatten(1).square().sum(dim=1) / lengths
            objective = loss if penalty is None else loss + penalty(variable)
            total = objective.sum()
        losses.append(loss.detach())
        finite = finite & objective.isfinite().all()
        if (step + 1) % look_every == 0 or step == settings.num_steps:
            _check_loss(finite, step, settings)
        if watch is not None and (step % settings.record_every == 0 or step == settings.num_steps):
            recorded.append(step)
            with torch.no_grad():
                measured = watch(variable.detach().clone())  # a view of the variable would change with it
                watched.append(measured)
        if step == settings.num_steps:
            break
        (variable.grad,) = torch.autograd.grad(total, [variable])
        optimizer.step()
        annealing.step()
        with torch.no_grad():
            variable.copy_(_within(variable, bounds))
        progress(1)
    best = objective.detach().unflatten(0, (restarts, count)).argmin(dim=0).cpu()

    def kept(curves: list[Tensor]) -> Tensor:  # T times [R·n] → [T, n]
        return torch.stack(curves).cpu().double().unflatten(1, (restarts, count))[:, best, torch.arange(count)]

    names = watched[0] if watched else {}
    return Reconstruction(
        found=variable.detach().unflatten(0, (restarts, count))[best.to(variable.device), torch.arange(count)],
        losses=kept(losses),
        recorded=torch.tensor(recorded, dtype=torch.int64),
        watched={name: kept([distances[name] for distances in watched]) for name in names},
        final_losses=losses[-1].cpu().double().unflatten(0, (restarts, count)),
    )


def _within(variable: Tensor, bounds: Bounds) -> Tensor:
    return variable if bounds == (None, None) else variable.clamp(*bounds)


def _checked(function: Callable[[Tensor], Tensor], targets: Tensor, variable: Tensor) -> Tensor:
    if not targets.isfinite().all():
        raise UserError("values that are traced back must be finite: look at the images and the network's weights")
    try:
        with torch.no_grad():
            outputs = function(variable[:1])
    except RuntimeError as error:  # what torch raises where shapes do not fit
        reason = str(error).partition("\n")[0]
        raise UserError(f"inputs {list(variable.shape[1:])} are not what values are given for ({reason})") from error
    if outputs.shape[1:] != targets.shape[1:]:
        raise UserError(
            f"no inputs {list(variable.shape[1:])} have values {list(targets.shape[1:])}: theirs are "
            f"{list(outputs.shape[1:])}"
        )
    return targets.to(outputs)


def _check_loss(finite: Tensor, step: int, settings: ReconstructionSettings) -> None:
    if not finite:
        raise UserError(
            f"the loss of a reconstruction is not finite after {step} updates: take a smaller learning rate than "
            f"{settings.learning_rate:g}"
        )
