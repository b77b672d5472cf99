"""Optimizers and learning-rate schedules that cannot be: torch says so only when a run has begun."""

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import nn

from editable.errors import UserError

__all__ = ["check_optimizer"]


def check_optimizer(optimizer: OptimizerCallable, lr_scheduler: LRSchedulerCallable | None = None) -> None:
    """Make both for a parameter of one value.

    Args:
        optimizer: The optimizer, given its parameters.
        lr_scheduler: The scheduler, given the optimizer.

    Raises:
        UserError: If torch refuses one of their numbers.
    """
    try:
        made = optimizer([nn.Parameter(torch.zeros(1, 1))])
    except ValueError as error:
        raise UserError(f"the optimizer cannot be made: {error}") from error
    if lr_scheduler is not None:
        try:
            lr_scheduler(made)
        except (ValueError, ZeroDivisionError) as error:
            raise UserError(f"the learning-rate scheduler cannot be made: {error}") from error
