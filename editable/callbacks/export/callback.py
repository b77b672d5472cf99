"""Writes the tested network into a file of its own, and runs the file on the test images beside the network."""

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

import editable.callbacks.export.report as report
from editable.callbacks.export.outcome import ExportOutcome
from editable.callbacks.run.context import image_data, leaves_nothing, network_of, optional_path, run_folder
from editable.callbacks.run.subcommand import Subcommand
from editable.errors import UserError
from editable.models import evaluation_mode, logits_of
from editable.models.exporting import FORMATS, format_of

__all__ = ["NetworkExport"]

WHAT = "an export"


class NetworkExport(Subcommand):
    """Writes the tested network, with its patches, into a file of its own, and checks the file on the test images.

    ``state_dict`` and ``safetensors`` hold the weights by name, an extra layer's, a codebook's and neurons' among them:
    the same network reads them, and torchvision's own where nothing was added. ``torch_export`` and ``onnx`` hold a
    graph that runs without this package, for any number of images (the input ``images``, as the network gets them, the
    output ``logits``); ``onnx`` needs the extra of that name.

    Every test image is run through the file as it was read again, and through the network. Where a class differs, or a
    logit by more than rounding, nothing is left. Weights are the same bit for bit. Logs ``export_num_images``,
    ``export_num_differing``, ``export_difference``, ``export_error`` and ``export_bytes``.

    Args:
        format: Of the file.
        file: Where it goes; by default ``exported`` with the format's suffix in the run's folder. One that is there is
            not replaced; a suffix that is another format's is refused.

    Attributes:
        outcome: What came out; none before it has run.

    Raises:
        UserError: If the file's suffix is another format's; when it runs, if the file is there already, the network
            cannot be written so, or the file computes something else.
    """

    command = "export"
    summary, write = staticmethod(report.summary), staticmethod(report.write)

    def __init__(
        self,
        format: Literal["state_dict", "safetensors", "torch_export", "onnx"] = "safetensors",
        file: str | None = None,
    ) -> None:
        if format not in FORMATS:
            raise UserError(f"export.format is {format!r}, but must be one of {', '.join(FORMATS)}")
        self.format = format
        self.file = optional_path(file)
        taken_for = None if self.file is None else format_of(self.file)
        if taken_for not in (None, format):
            raise UserError(
                f"export.file is '{file}', whose suffix says {taken_for}, but export.format is {format}: name the file "
                f"…{FORMATS[format].suffix}, or set export.format to {taken_for}"
            )
        self.outcome: ExportOutcome | None = None
        self._written: Path | None = None
        self._run: Callable[[Tensor], Tensor] | None = None
        self._counts = [0, 0, 0]
        self._difference = 0.0

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make it fail, before anything is computed."""
        if trainer.world_size > 1:
            raise UserError(f"{WHAT} is made by one process: set trainer.devices to 1")
        if self.file is None and leaves_nothing(trainer) and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            raise UserError(
                "the exported file would not be kept, as trainer.logger is false: give export.file, or "
                "trainer.default_root_dir"
            )
        path = self._path(trainer)
        if os.path.lexists(path):
            raise UserError(f"export.file: '{path}' is there already and would be overwritten; choose another name")
        if not path.parent.is_dir() and self.file is not None:
            raise UserError(f"export.file: there is no folder '{path.parent}'")
        self._run, self._counts, self._difference = None, [0, 0, 0], 0.0

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Run the file and the network on a batch of test images; with the first one, write the file."""
        images, labels = batch[0].cpu().float(), batch[1].cpu()
        if self._run is None:
            self._run = self._write(trainer, pl_module, images)
        network = self._network
        with torch.no_grad(), evaluation_mode(network):
            expected, found = logits_of(network(images)), self._run(images)
        scale = expected.abs().amax(dim=1, keepdim=True).clamp(min=1)
        difference = ((found - expected).abs() / scale).amax()
        self._difference = max(self._difference, float(difference) if difference.isfinite() else float("inf"))
        predicted = found.argmax(dim=1)
        counted = (len(labels), (predicted != labels).sum(), (predicted != expected.argmax(dim=1)).sum())
        self._counts = [before + int(more) for before, more in zip(self._counts, counted, strict=True)]

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the file if it computes what the network does."""
        assert self._written is not None, "the file is written with the first batch"
        path, form = self._path(trainer), FORMATS[self.format]
        num_images, num_wrong, num_differing = self._counts
        self.outcome = ExportOutcome(
            self.format,
            str(path),
            self._written.stat().st_size,
            sum(param.numel() for param in self._network.parameters()),
            num_images,
            num_wrong,
            num_differing,
            self._difference,
            form.tolerance,
        )
        if self.outcome.refusal is None:
            os.replace(self._written, path)
        self._remove()
        pl_module.log_dict({f"export_{name}": value for name, value in self.outcome.values().items()})

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave nothing half-written."""
        self._remove()
        super().on_exception(trainer, pl_module, exception)

    def failure(self) -> str | None:
        """Return why nothing was left."""
        assert self.outcome is not None, "a file is left or not once it has run"
        return self.outcome.refusal

    def _write(self, trainer: Trainer, pl_module: LightningModule, images: Tensor) -> Callable[[Tensor], Tensor]:
        """Write the file under another name, and return what it computes."""
        self._network = copy.deepcopy(network_of(pl_module)).cpu().float().eval()
        path, form = self._path(trainer), FORMATS[self.format]
        path.parent.mkdir(parents=True, exist_ok=True)
        self._written = path.with_name(f".{path.stem}-{os.getpid()}{form.suffix}")
        example = images if len(images) > 1 else torch.cat([images, images])
        classes = list(image_data(trainer, WHAT).classes)
        form.write(self._network, example, self._written, classes)
        return form.load(self._written, self._network)

    def _path(self, trainer: Trainer) -> Path:
        suffix = FORMATS[self.format].suffix
        return run_folder(trainer) / f"exported{suffix}" if self.file is None else self.file

    def _remove(self) -> None:
        """Remove what was written and is not left."""
        if self._written is not None:
            self._written.unlink(missing_ok=True)
        self._run = self._written = None
