"""The outcome of ``predict`` in a file: ``predictions.csv``, one line for each image."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from editable.atomic import write_atomically

__all__ = ["PredictionTable"]


class PredictionTable(BasePredictionWriter):
    """Writes ``predictions.csv`` into the run's log folder: position, predicted class and its probability.

    With several ranks each writes its own part, ``predictions-<rank>.csv``.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="epoch")

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write the table."""
        classes = getattr(trainer.datamodule, "classes", None)  # type: ignore[attr-defined]
        name = "predictions.csv" if trainer.world_size == 1 else f"predictions-{trainer.global_rank}.csv"
        path = Path(trainer.log_dir or trainer.default_root_dir) / name
        with write_atomically(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["index", "label", "class", "probability"])
            for indices, probabilities in zip(batch_indices[0], predictions, strict=True):
                confidence, labels = probabilities.max(dim=-1)
                for index, label, value in zip(indices, labels.tolist(), confidence.tolist(), strict=True):
                    writer.writerow([index, label, classes[label] if classes else label, f"{value:.6f}"])
