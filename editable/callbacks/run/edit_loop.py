"""What callbacks that evaluate edits share: the whole data set, edits dealt out over ranks, progress bars."""

from typing import Any

import torch
import torch.distributed
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn
from torch.utils.data import DataLoader

from editable.data.turns import Turns
from editable.editing import EditOutcomes
from editable.errors import UserError
from editable.models.sharded import is_sharded

__all__ = [
    "all_ranks",
    "gather_outcomes",
    "loader_of_turns",
    "progress_bars",
    "share_of_edits",
    "validates_alone",
    "whole_loader",
]


def whole_loader(dataloaders: Any) -> DataLoader:
    """Return a loader of the whole data set in its own order, whatever sampler a distributed run has put in."""
    loader = dataloaders[0] if isinstance(dataloaders, list | tuple) and len(dataloaders) == 1 else dataloaders
    if not isinstance(loader, DataLoader) or not hasattr(loader.dataset, "__getitem__"):
        raise UserError("edits can be evaluated on one DataLoader over a data set with positions, got another iterable")
    return _loader_like(loader, batch_size=loader.batch_size)


def loader_of_turns(loader: DataLoader, turns: Turns) -> DataLoader:
    """Return a loader of the batches, of those of a whole loader, that are one process's turns."""
    return _loader_like(loader, batch_sampler=turns.own(len(loader.dataset)))  # type: ignore[arg-type]


def _loader_like(loader: DataLoader, **batches: Any) -> DataLoader:
    """Return a loader of the same data set in the same way, with other batches."""
    return DataLoader(
        loader.dataset,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        **batches,
    )


def progress_bars(trainer: Trainer) -> Progress:
    """Return progress bars that show only where the trainer's own do."""
    shown = getattr(trainer.progress_bar_callback, "is_enabled", False) and trainer.is_global_zero
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        transient=True,
        disable=not shown,
    )


def validates_alone(trainer: Trainer) -> bool:
    """Return whether this is ``validate``; ``trainer.validating`` is also true of the validation in a fit."""
    return trainer.state.fn == TrainerFn.VALIDATING


def share_of_edits(trainer: Trainer, network: nn.Module) -> tuple[int, int]:
    """Return which share of the edits is this process's, and how many shares there are.

    Processes that share the parameters out gather them together, step by step, so each makes all edits.
    """
    return (0, 1) if is_sharded(network) else (trainer.global_rank, trainer.world_size)


def all_ranks(own: Any, world_size: int) -> list[Any]:
    """Collect what each rank has, by rank."""
    shares: list[Any] = [own] * world_size
    if world_size > 1:
        torch.distributed.all_gather_object(shares, own)
    return shares


def gather_outcomes(outcomes: EditOutcomes, world_size: int) -> EditOutcomes:
    """Collect all ranks' outcomes in the order of the edits, which were dealt out one by one."""
    fields = []
    for parts in zip(*all_ranks(tuple(outcomes), world_size), strict=True):
        whole = torch.empty(sum(len(part) for part in parts), dtype=parts[0].dtype)
        for rank, part in enumerate(parts):
            whole[rank::world_size] = part
        fields.append(whole)
    return EditOutcomes(*fields)
