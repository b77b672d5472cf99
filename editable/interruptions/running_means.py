"""What a training epoch has logged so far: sums over its batches, which Lightning's checkpoints lack."""

from typing import Any

import torch
from lightning.pytorch import Trainer

__all__ = ["put_running_means", "running_means"]

REDUCTIONS = {"mean": torch.mean, "sum": torch.sum, "max": torch.max, "min": torch.min}


def running_means(trainer: Trainer) -> list[dict[str, Any]]:
    """Return the values of the epoch's batches, as accumulated by ``log(…, on_epoch=True)``, of this process alone.

    Metrics that are objects of their own (``torchmetrics``) are not among them: they are the task's.
    """
    found = []
    for metric in trainer.fit_loop.epoch_loop._results.values():
        meta = metric.meta
        if metric.is_tensor and meta.on_epoch and meta.reduce_fx.__name__ in REDUCTIONS and not metric.has_reset:
            found.append(
                {
                    "fx": meta.fx,
                    "name": meta.name,
                    "value": metric.value.detach().cpu().clone(),
                    "weight": metric.cumulated_batch_size.cpu().clone() if meta.is_mean_reduction else None,
                    "reduce": meta.reduce_fx.__name__,
                    "prog_bar": meta.prog_bar,
                    "logger": meta.logger,
                    "on_step": meta.on_step,
                    "add_dataloader_idx": meta.add_dataloader_idx,
                    "sync_dist": meta.sync.should,
                    "rank_zero_only": meta.sync.rank_zero_only,
                }
            )
    return found


def put_running_means(trainer: Trainer, saved: list[dict[str, Any]]) -> None:
    """Go on from the values of the batches before an interruption."""
    results, device = trainer.fit_loop.epoch_loop._results, trainer.strategy.root_device
    for some in saved:
        results.log(
            some["fx"],
            some["name"],
            some["value"].to(device),
            prog_bar=some["prog_bar"],
            logger=some["logger"],
            on_step=some["on_step"],
            on_epoch=True,
            reduce_fx=REDUCTIONS[some["reduce"]],
            sync_dist=some["sync_dist"],
            sync_dist_fn=trainer.strategy.reduce,
            add_dataloader_idx=some["add_dataloader_idx"],
            batch_size=1,
            rank_zero_only=some["rank_zero_only"],
        )
        metric = results[f"{some['fx']}.{some['name']}"]
        metric.value = some["value"].to(device)
        if some["weight"] is not None:
            metric.cumulated_batch_size = some["weight"].to(device)
    if saved:
        # Else the first batch is taken for the epoch's first, and what is logged of it begins anew.
        trainer._logger_connector._first_loop_iter = True
