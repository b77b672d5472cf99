"""A fit that is resumed from a checkpoint, wherever in an epoch that was made, goes on as it would have."""

from typing import Any

import torch
import torch.distributed
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from editable.interruptions.position import place_of, put_counters
from editable.interruptions.random_state import random_state, set_random_state
from editable.interruptions.running_means import put_running_means, running_means

__all__ = ["ExactResume"]

KEY = "exact_resume"


class ExactResume(Callback):
    """Adds to checkpoints of a fit what Lightning's lack, and goes on from it bit for bit.

    That is: the place in the epoch, the random state of each process, the values logged in the epoch so far and the
    last ones of each metric, and gradients that wait for those of further batches. The order of training images is the
    data module's (:mod:`editable.data.modules.training_order`). Added by :class:`~editable.trainer.EditableTrainer`.

    With a loader of one's own, the batches of the epoch that were done are seen again; Lightning warns of that.
    """

    def __init__(self) -> None:
        self._validated = False
        self._loaded: dict[str, Any] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note that a step has begun."""
        self._validated = False

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that a validation has begun."""
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that it is over; checkpoints are made behind."""
        self._validated = True

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to go on; a collective operation with several processes, as saving is."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        place = place_of(trainer, self._validated)
        if place is None:
            return
        accumulating = place in ("step", "validation") and trainer.fit_loop._should_accumulate()
        own = {
            "random": random_state(),
            "means": running_means(trainer) if place in ("step", "validation") else [],
            "gradients": _gradients(pl_module) if accumulating else {},
        }
        shares: list[Any] = [own] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(shares, own)
        checkpoint[KEY] = {
            "place": place,
            "accumulating": accumulating,
            "validates": place == "step" and _validation_is_due(trainer),
            "metrics": {name: value.detach().cpu() for name, value in trainer.callback_metrics.items()},
            "processes": shares,
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put Lightning's counters, which it reads next."""
        self._loaded = {}
        if trainer.state.fn != TrainerFn.FITTING or KEY not in checkpoint:
            return
        self._loaded = saved = checkpoint[KEY]
        put_counters(checkpoint["loops"]["fit_loop"], saved["place"], saved["accumulating"], saved["validates"])
        if len(saved["processes"]) != trainer.world_size:
            rank_zero_warn(
                f"The checkpoint was made by {len(saved['processes'])} processes and is resumed by "
                f"{trainer.world_size}: batches, random numbers and the epoch's training metrics will be others than "
                "those of an uninterrupted run."
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put back the last values of metrics, also where nothing is left to train."""
        metrics = self._loaded.get("metrics", {})
        trainer._logger_connector._callback_metrics |= {
            name: value.to(pl_module.device) for name, value in metrics.items()
        }

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put back the rest, once all is made that could draw random numbers."""
        if not self._loaded:
            return
        saved, self._loaded = self._loaded, {}
        loop, place = trainer.fit_loop, saved["place"]
        if place in ("epoch", "end"):
            loop._restarting = loop.epoch_loop.restarting = False  # an epoch begins, also where max_steps is set
        if place == "epoch":
            _update_plateau_schedulers(trainer)
        if len(saved["processes"]) == trainer.world_size:
            own = saved["processes"][trainer.global_rank]
            put_running_means(trainer, own["means"])
            _put_gradients(pl_module, own["gradients"])
            set_random_state(own["random"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let Lightning end the epoch as any other: in one that was resumed it leaves out schedulers that wait."""
        trainer.fit_loop._restarting = False


def _validation_is_due(trainer: Trainer) -> bool:
    """Return whether a validation follows the last step, or is under way."""
    if trainer.validating:
        return True
    loop = trainer.fit_loop
    return bool(loop._data_fetcher is not None and loop.epoch_loop._should_check_val_fx(loop._data_fetcher))


def _gradients(pl_module: LightningModule) -> dict[str, torch.Tensor]:
    """Return the gradients that have been accumulated so far."""
    return {name: param.grad.cpu() for name, param in pl_module.named_parameters() if param.grad is not None}


def _put_gradients(pl_module: LightningModule, gradients: dict[str, torch.Tensor]) -> None:
    for name, param in pl_module.named_parameters():
        if name in gradients:
            param.grad = gradients[name].to(param.device)


def _update_plateau_schedulers(trainer: Trainer) -> None:
    """Advance the schedulers that look at a metric; Lightning does so behind the checkpoint at an epoch's end."""
    for config in trainer.lr_scheduler_configs:
        value = trainer.callback_metrics.get(str(config.monitor)) if config.reduce_on_plateau else None
        if value is not None and config.interval == "epoch" and trainer.current_epoch % config.frequency == 0:
            trainer.lightning_module.lr_scheduler_step(config.scheduler, value)
