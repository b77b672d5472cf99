"""A small fit with all that an interruption could upset, checkpoints at every place, and what a fit ends with."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from torch import nn

from editable.data import DigitsDataModule
from editable.editing import Editor, RMSProp
from editable.errors import Interrupted
from editable.interruptions import StopSignals
from editable.tasks import EditableTrainingTask
from editable.trainer import EditableTrainer

NUM_EPOCHS, NUM_BATCHES = 2, 6


class Task(EditableTrainingTask):
    """Draws from torch's own generator in each step, by its dropout."""

    def __init__(self, ballast: int = 0, **settings: Any) -> None:
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.Linear(36, 10),
        )
        super().__init__(
            network,
            Editor(RMSProp(0.01, learn_decay=True), max_steps=3),
            ["5"],
            c_edit=0.3,
            c_loc=0.3,
            optimizer=lambda params: torch.optim.Adam(params, lr=0.01),
            **settings,
        )
        self.register_buffer("ballast", torch.arange(ballast))  # makes saving take its time


class Everywhere(Checkpoint):
    """Saves wherever a checkpoint can be made: behind steps, validations and epochs, and at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _save(self, trainer, place: str) -> None:
        if not trainer.sanity_checking:
            trainer.save_checkpoint(self.folder / f"{trainer.global_step:02}-{place}.ckpt")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self._save(trainer, f"step{batch_idx}")

    def on_validation_end(self, trainer, pl_module):
        self._save(trainer, "validation")

    def on_train_epoch_end(self, trainer, pl_module):
        self._save(trainer, "epoch")

    def on_train_end(self, trainer, pl_module):
        self._save(trainer, "end")


class Diary(Callback):
    """Writes down at which steps there was a validation, and what the learning rate was at each step."""

    def __init__(self) -> None:
        self.validations: list[int] = []
        self.rates: dict[int, float] = {}
        self.epochs: dict[int, dict[str, float]] = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates[trainer.global_step] = trainer.optimizers[0].param_groups[0]["lr"]

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.validations.append(trainer.global_step)

    def on_train_epoch_start(self, trainer, pl_module):
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if "step" not in name}
        self.epochs[trainer.current_epoch] = values


class Ended:
    """What a fit has ended with."""

    def __init__(self, trainer: EditableTrainer, task: Task, diary: Diary) -> None:
        self.state = task.state_dict()
        self.optimizer = trainer.optimizers[0].state_dict()
        self.rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.random = torch.rand(3)
        self.metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if "_step" not in name}
        self.diary, self.steps = diary, trainer.global_step
        self.logged = trainer.fit_loop.epoch_loop._batches_that_stepped

    def difference(self, other: "Ended") -> list[str]:
        """Return what is another than in another fit, which this one was resumed from."""
        found = [name for name, value in self.state.items() if not torch.equal(value, other.state[name])]
        found += [] if torch.equal(self.random, other.random) else ["random"]
        found += [name for name, value in other.metrics.items() if self.metrics.get(name) != value]
        found += [] if self.rate == other.rate else ["rate"]
        found += [] if self.logged == other.logged else [f"logged {self.logged} {other.logged}"]
        found += [f"rate at {step}" for step, rate in self.diary.rates.items() if other.diary.rates[step] != rate]
        mine, whole = self.diary.validations, other.diary.validations
        found += [] if not mine or mine == whole[-len(mine) :] else [f"validations {mine} of {whole}"]
        return found


def fit(
    folder: Path,
    resume: Path | None = None,
    save: Path | None = None,
    task: Task | None = None,
    num_workers: int = 0,
    **settings: Any,
) -> Ended:
    """Fit for two epochs of six batches each, and return what it has ended with."""
    seed_everything(1 if resume is None else 2)
    diary = Diary()
    callbacks = [diary, *([Everywhere(save)] if save else []), *settings.pop("callbacks", [])]
    defaults = {"max_epochs": NUM_EPOCHS, "limit_val_batches": 1, "num_sanity_val_steps": 0}
    trainer = EditableTrainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
        default_root_dir=folder,
        callbacks=callbacks,
        **{**defaults, **settings},
    )
    task = task or Task()
    data = DigitsDataModule(batch_size=20, train_limit=20 * NUM_BATCHES + 3, num_workers=num_workers)
    trainer.fit(task, data, ckpt_path=resume, weights_only=True)
    return Ended(trainer, task, diary)


def last_at_each_step(folder: Path) -> ModelCheckpoint:
    """Saves ``last.ckpt`` behind each step."""
    return ModelCheckpoint(folder, filename="last", every_n_train_steps=1, enable_version_counter=False)


def in_child(work: Callable[[], object]) -> int:
    """Run something in a forked process as the command line would, where signals end it; return the process."""
    if torch.cuda.is_initialized():
        pytest.skip("a forked process may not use the CUDA device that its parent has used")
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        with StopSignals().installed():
            work()
        status = 0
    except Interrupted as interrupted:
        status = interrupted.status
    finally:
        os._exit(status)


def status_of(child: int) -> int:
    """Wait for a process; return its exit status, negative for a signal that has killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
