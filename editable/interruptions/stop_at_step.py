"""A fit that a signal asks to end stops behind a step, on all processes at the same one, and leaves its last state."""

import signal
from typing import Any

import torch.distributed
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn

from editable.errors import Interrupted
from editable.interruptions.last_checkpoint import LastCheckpoint
from editable.interruptions.scheduler import checkpoint_name, remove_last_of_job, requeue
from editable.interruptions.signals import StopSignals

__all__ = ["StopAtStep"]


class StopAtStep(Checkpoint):
    """Looks behind each step, and behind a validation, whether a signal has come; then saves, and ends the fit.

    A validation inside the fit is broken off, and runs from its beginning when the fit is resumed; with several
    processes, or averaged weights in the network's place, it is waited for. Added by
    :class:`~editable.trainer.EditableTrainer` behind all other callbacks.

    Args:
        keeps: Whether what is saved stays: in a run that writes nothing there is no place to go on from.
    """

    def __init__(self, keeps: bool) -> None:
        self._keeps = keeps
        self._breaks_off = False

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
        """Save what a validation was broken off from; end the processes that this one has started."""
        signals = StopSignals.current()
        if signals is not None:
            signals.held = False
        if isinstance(exception, Interrupted):
            if self._breaks_off and trainer.state.fn == TrainerFn.FITTING:
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


def _fits(trainer: Trainer) -> bool:
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking


def _from_all(trainer: Trainer, own: int) -> list[int]:
    numbers: list[Any] = [own] * trainer.world_size
    torch.distributed.all_gather_object(numbers, own)
    return numbers
