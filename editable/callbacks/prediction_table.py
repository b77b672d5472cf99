"""The outcome of ``predict`` in a file: ``predictions.csv``, one line for each image."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from rich.console import Console
from torch import Tensor

from editable.atomic import write_atomically
from editable.callbacks.run.context import datamodule_of, image_data, leaves_nothing, run_folder
from editable.data.images.pictures import Pictures
from editable.errors import UserError, require_at_least
from editable.tables import Table

__all__ = ["PredictionTable"]

MOST_SHOWN = 20
"""Images on the terminal; the file has all."""


class PredictionTable(BasePredictionWriter):
    """Tells what a trained network takes images for, in a table.

    Writes ``predictions.csv`` into the run's log folder: position, predicted class and its probability; of images of
    one's own the file and the next classes besides, and the first images on the terminal too. With several ranks each
    writes its own part, ``predictions-<rank>.csv``.

    Args:
        images: Files, folders, or patterns such as ``'photos/*.jpg'``, in place of the test images.
        top: Number of classes that are told of each of them.

    Raises:
        UserError: If the number is below 1, there is no such image, or the folder holds the predictions of another run
            already.
    """

    def __init__(self, images: list[str] | str | None = None, top: int = 3) -> None:
        super().__init__(write_interval="epoch")
        require_at_least(1, top=top)
        self.images = [images] if isinstance(images, str) else images
        self.top = top
        self._names: list[str] | None = None
        self._written: Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse to overwrite the predictions of another run, and find the images, before anything is computed."""
        super().setup(trainer, pl_module, stage)
        path = _path(trainer)
        if stage != "predict":
            return
        if self._written != path and path.exists():
            raise UserError(
                f"'{path}' holds the predictions of another run, which would be overwritten; "
                "choose another trainer.logger or trainer.default_root_dir"
            )
        if self.images is not None:
            data = image_data(trainer, "a prediction of images of one's own")
            pictures = Pictures(self.images, grey=len(data.mean) == 1)
            data.predict_on(pictures)
            self._names = pictures.names

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
        rows: list[list[str]] = []
        with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["index", "label", "class", "probability", *self._further_columns(predictions)])
            for indices, probabilities in zip(batch_indices[0], predictions, strict=True):
                for index, told in zip(indices, self._told(probabilities, classes), strict=True):
                    (label, name, value), *others = told
                    further = [] if self._names is None else [self._names[index]]
                    further += [cell for _, *both in others for cell in both]
                    writer.writerow([index, label, name, value, *further])
                    if self._names is not None and len(rows) < MOST_SHOWN:
                        words = [f"{some} ({100 * float(share):.1f} %)" for _, some, share in told]
                        rows.append([self._names[index], *words])
        if self._names is not None and trainer.is_global_zero:
            number = len(self._names)
            title = f"{number} image{'s' * (number > 1)}" + (f", the first {len(rows)}" if number > len(rows) else "")
            header = ["file", *(f"class {place}" for place in range(1, len(rows[0])))]
            console = Console()
            console.print(Table(header, rows, title).terminal())
            if not leaves_nothing(trainer):
                console.print(f"All in {path}", soft_wrap=True, markup=False)

    def _told(self, probabilities: Tensor, classes: Sequence[str] | None) -> Iterator[list[tuple[int, str, str]]]:
        """Yield for each image [N, C] the likeliest classes: label, name and probability."""
        number = 1 if self._names is None else min(self.top, probabilities.shape[-1])
        values, labels = probabilities.topk(number, dim=-1)
        for some, of in zip(values.tolist(), labels.tolist(), strict=True):
            yield [
                (label, str(classes[label] if classes else label), f"{value:.6f}")
                for label, value in zip(of, some, strict=True)
            ]

    def _further_columns(self, predictions: Sequence[Tensor]) -> list[str]:
        if self._names is None:
            return []
        number = min(self.top, predictions[0].shape[-1])
        return ["file", *(f"{name}_{place}" for place in range(2, number + 1) for name in ("class", "probability"))]


def _path(trainer: Trainer) -> Path:
    """Return this rank's file; a collective operation, so to be called on every rank."""
    name = "predictions.csv" if trainer.world_size == 1 else f"predictions-{trainer.global_rank}.csv"
    return run_folder(trainer) / name
