"""What a signal does to a run: a fit stops behind a step, all processes at the same one, and leaves its last state."""

import signal
from pathlib import Path
from typing import Any

import torch.distributed
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn

from editable.callbacks.drawdown_evaluation import DrawdownEvaluation
from editable.callbacks.drawdown_evaluation.unfinished import is_kept
from editable.callbacks.run.subcommand import Subcommand
from editable.errors import Interrupted
from editable.interruptions.last_checkpoint import LastCheckpoint
from editable.interruptions.scheduler import (
    checkpoint_name,
    mark_unfinished,
    remove_last_of_job,
    requeue,
    unfinished_of_job,
)
from editable.interruptions.signals import StopSignals

__all__ = ["StopAtStep"]


class StopAtStep(Checkpoint):
    """Looks behind each step, and behind a validation, whether a signal has come; then saves, and ends the fit.

    A validation inside the fit is broken off, and runs from its beginning when the fit is resumed; with several
    processes, or averaged weights in the network's place, it is waited for. Other commands end at once; where a
    scheduler has ended one that keeps what it has done, the job's next start goes on from there. Added by
    :class:`~editable.trainer.EditableTrainer` behind all other callbacks.

    Args:
        keeps: Whether what is saved stays: in a run that writes nothing there is no place to go on from.
    """

    def __init__(self, keeps: bool) -> None:
        self._keeps = keeps
        self._breaks_off = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let evaluations go on from what the job's last start has kept."""
        folder = unfinished_of_job(trainer)
        if folder is not None:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, DrawdownEvaluation | Subcommand):
                    _take_up(callback, folder)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove what has marked the job as unfinished: it is done."""
        if stage != TrainerFn.FITTING:
            remove_last_of_job(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let signals wait."""
        self._hold(True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop, unless gradients are waiting for further batches."""
        if not trainer.fit_loop._should_accumulate():
            self._stop(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let signals act at once, where the state in the midst of a validation can be gone on from."""
        averages = any(isinstance(some, WeightAveraging) for some in trainer.callbacks)  # type: ignore[attr-defined]
        if _fits(trainer) and trainer.world_size == 1 and not averages:
            self._breaks_off = True
            self._hold(False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop behind a validation."""
        if _fits(trainer):
            self._hold(True)
            self._breaks_off = False
            self._stop(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let signals act at once again: the last state is saved, and no scheduler's is needed any more."""
        remove_last_of_job(trainer)
        self._hold(False)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save what a validation was broken off from, or note what was kept; end processes that were started here."""
        signals = StopSignals.current()
        if signals is not None:
            signals.held = False
        if isinstance(exception, Interrupted):
            if trainer.state.fn != TrainerFn.FITTING:
                if exception.advice:  # all other callbacks have kept what they have
                    mark_unfinished(trainer)
                    requeue(trainer, exception.signum)
            elif self._breaks_off:
                self._save(trainer, exception)
        elif trainer.strategy.launcher is not None:
            if signals is not None:
                signals.ending = True
            trainer.strategy.launcher.kill(signal.SIGTERM)

    def _stop(self, trainer: Trainer) -> None:
        """Save and raise, where any process has got a signal; a collective operation."""
        signals = StopSignals.current()
        received = 0 if signals is None or signals.received is None else signals.received
        if trainer.world_size > 1:
            if not trainer.strategy.reduce_boolean_decision(bool(received), all=False):
                return
            received = max(received, max(_from_all(trainer, received)))
        if received:
            interrupted = Interrupted(received)
            self._save(trainer, interrupted)
            if trainer.world_size > 1:
                trainer.strategy.barrier()  # a scheduler may end all when one does: not before it is asked to requeue
            raise interrupted

    def _save(self, trainer: Trainer, interrupted: Interrupted) -> None:
        last = [some for some in trainer.callbacks if isinstance(some, LastCheckpoint)]  # type: ignore[attr-defined]
        if last and self._keeps and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            interrupted.advice = f"--ckpt_path {last[0].save(trainer, checkpoint_name(trainer))}"
            requeue(trainer, interrupted.signum)

    @staticmethod
    def _hold(held: bool) -> None:
        signals = StopSignals.current()
        if signals is not None:
            signals.held = held
            if not held:
                signals.raise_received()


def _take_up(callback: DrawdownEvaluation | Subcommand, folder: Path) -> None:
    """Let a callback go on with what a folder holds, unless there is nothing, or its option names another."""
    kept = is_kept(folder) if isinstance(callback, DrawdownEvaluation) else callback.has_kept(folder)
    if kept and callback.resume is None:
        callback.resume = folder


def _fits(trainer: Trainer) -> bool:
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking


def _from_all(trainer: Trainer, own: int) -> list[int]:
    numbers: list[Any] = [own] * trainer.world_size
    torch.distributed.all_gather_object(numbers, own)
    return numbers
