"""Training and evaluation that one or two processes can run: ``python -m tests.tasks.two_processes <folder>``."""

import sys
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from editable.callbacks import DrawdownEvaluation, LearningRateSearch, RunReport
from editable.data import DigitsDataModule
from editable.data.edits.edit_streams import Edits
from editable.editing import Editor, RMSProp, SamplingSettings
from editable.tasks import EditableFineTuningTask, EditableTrainingTask

BATCH_SIZE, NUM_STEPS = 8, 5
NUM_EDITS = (5, 1)
"""Evaluations with more edits than two processes, dealt out unequally, and with fewer."""


def make_network() -> nn.Module:
    """A network without batch statistics, which would differ between a batch and its two halves."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3),
        nn.Flatten(),
        nn.Linear(8, 10),
    )


class AsksTheSame:
    """Asks for the same edits, however many processes share the batch.

    In each batch the edit of one rank asks for what the network predicts already, and takes no step, while the other's
    asks for another label, and takes several; the ranks change places from batch to batch.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.steps = []

    def training_step(self, batch, batch_idx):
        with torch.no_grad():
            self.predictions = self.network(batch[0]).argmax(dim=1)
        return super().training_step(batch, batch_idx)

    def draw_edits(self, batch_size, num_classes, batch_idx):
        ranks = torch.arange(2) if self.trainer.world_size == 1 else torch.tensor([self.global_rank])
        indices = (3 * batch_idx + ranks) % BATCH_SIZE  # in a rank's own batch
        if self.trainer.world_size == 1:
            indices = 2 * indices + ranks  # two batches of two ranks, interleaved, are one of one rank
        shift = (batch_idx + ranks) % 2
        return Edits(indices, (self.predictions[indices] + 4 * shift) % num_classes)

    def edit(self, features, edits):
        result = super().edit(features, edits)
        self.steps.append(result.num_steps.tolist())
        return result


class SharedEdits(AsksTheSame, EditableTrainingTask):
    """Editable training."""


class SharedFineTuning(AsksTheSame, EditableFineTuningTask):
    """Editable fine-tuning."""


class KeepState(Callback):
    """Saves what each rank has learnt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer, pl_module):
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save(
            {"state": pl_module.state_dict(), "steps": pl_module.steps}, self.folder / f"rank{trainer.global_rank}.pt"
        )


def make_trainer(folder: Path, num_processes: int, **settings) -> Trainer:
    return Trainer(
        accelerator="cpu",
        devices=num_processes,
        strategy="auto" if num_processes == 1 else "ddp_fork",
        precision="64-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
        default_root_dir=folder,
        **settings,
    )


def train(folder: Path, num_processes: int, kind: type[EditableTrainingTask], **settings) -> None:
    """Train for a few steps on the same images and edits, whatever the number of processes."""
    task = kind(
        make_network(),
        Editor(RMSProp(0.01, learn_learning_rate=True, learn_decay=True), max_steps=4),
        ["3"],
        c_edit=0.5,
        c_loc=0.5,
        edits_per_batch=2 // num_processes,
        locality_share="own",
        optimizer=partial(torch.optim.Adam, lr=0.01),
        **settings,
    )
    data = DigitsDataModule(batch_size=2 * BATCH_SIZE // num_processes, validation_fraction=0.0)
    trainer = make_trainer(folder, num_processes, max_steps=NUM_STEPS, callbacks=[KeepState(folder)])
    trainer.fit(task, data)


def evaluate(folder: Path, num_processes: int, num_edits: int, sampling: SamplingSettings | None = None) -> None:
    """Evaluate edits, leaving metrics.json and edits.csv in the folder."""
    evaluation = DrawdownEvaluation(num_edits, image_stride=2, sampling=sampling)
    task = SharedEdits(make_network(), Editor(RMSProp(0.05), max_steps=4), ["3"])
    trainer = make_trainer(folder, num_processes, callbacks=[evaluation, RunReport()])
    trainer.test(task, DigitsDataModule(batch_size=64), verbose=False)


def search(folder: Path, num_processes: int) -> None:
    """Search for a learning rate, leaving search.csv in the folder."""
    callback = LearningRateSearch(
        DrawdownEvaluation(), 0.005, 0.5, per_decade=1, num_edits=5, min_success=0.0, half_width=None, split="val"
    )
    task = SharedEdits(make_network(), Editor(RMSProp(0.05), max_steps=4), ["3"])
    trainer = make_trainer(folder, num_processes, callbacks=[callback, RunReport()])
    trainer.validate(task, DigitsDataModule(batch_size=64), verbose=False)


def main(folder: Path, num_processes: int) -> None:
    train(folder / "training", num_processes, SharedEdits)
    train(folder / "fine_tuning", num_processes, SharedFineTuning, c_labels=0.5)
    search(folder / "search", num_processes)
    for num_edits in NUM_EDITS:
        evaluate(folder / f"{num_edits}_edits", num_processes, num_edits)
        sampling = SamplingSettings(forward_passes=60 * num_edits)
        evaluate(folder / f"{num_edits}_sampled", num_processes, num_edits, sampling)


if __name__ == "__main__":
    main(Path(sys.argv[1]), num_processes=2)
