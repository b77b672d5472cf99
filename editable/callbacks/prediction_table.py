"""The outcome of ``predict`` in a file: ``predictions.csv``, one line for each image."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from editable.atomic import write_atomically
from editable.callbacks.run.context import datamodule_of, run_folder
from editable.errors import UserError

__all__ = ["PredictionTable"]


class PredictionTable(BasePredictionWriter):
    """Writes ``predictions.csv`` into the run's log folder: position, predicted class and its probability.

    With several ranks each writes its own part, ``predictions-<rank>.csv``.

    Raises:
        UserError: If the folder holds the predictions of another run already.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="epoch")
        self._written: Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse to overwrite the predictions of another run, before anything is computed."""
        super().setup(trainer, pl_module, stage)
        path = _path(trainer)
        if stage == "predict" and self._written != path and path.exists():
            raise UserError(
                f"'{path}' holds the predictions of another run, which would be overwritten; "
                "choose another trainer.logger or trainer.default_root_dir"
            )

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write the table."""
        classes = getattr(datamodule_of(trainer), "classes", None)
        path = self._written = _path(trainer)
        with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["index", "label", "class", "probability"])
            for indices, probabilities in zip(batch_indices[0], predictions, strict=True):
                confidence, labels = probabilities.max(dim=-1)
                for index, label, value in zip(indices, labels.tolist(), confidence.tolist(), strict=True):
                    writer.writerow([index, label, classes[label] if classes else label, f"{value:.6f}"])


def _path(trainer: Trainer) -> Path:
    """Return this rank's file; a collective operation, so to be called on every rank."""
    name = "predictions.csv" if trainer.world_size == 1 else f"predictions-{trainer.global_rank}.csv"
    return run_folder(trainer) / name
