"""What a generator makes, as pictures: after each validation or test of a run, in its folder and in TensorBoard."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torchvision.utils import make_grid

from editable.callbacks.run.context import run_folder
from editable.visualize import plot_samples

__all__ = ["GeneratedSamples"]


class GeneratedSamples(Callback):
    """Writes the first samples of a task that has ``samples``, such as :class:`~editable.tasks.GenerationTask`.

    They go to ``samples/epoch_<n>.png`` in the run's log folder, n counted from 0, those of a test to
    ``samples/test.png``; to TensorBoard, where the run logs to it, as ``samples``; and the last ones into the report.
    """

    def __init__(self) -> None:
        self._last: str | None = None

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the samples of a validation."""
        if not trainer.sanity_checking:
            self._write(trainer, pl_module, f"epoch_{trainer.current_epoch:04}")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the samples of a test."""
        self._write(trainer, pl_module, "test")

    def report(self, trainer: Trainer, folder: Path) -> list[str]:
        """Return the report's section in Markdown."""
        return [f"## Samples\n\n![Generated images]({self._last})\n"] if self._last else []

    def _write(self, trainer: Trainer, pl_module: LightningModule, name: str) -> None:
        samples = getattr(pl_module, "samples", None)
        folder = run_folder(trainer)
        if samples is None or not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._last = f"samples/{name}.png"
        plot_samples(folder / self._last, samples)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("samples", make_grid(samples, nrow=16), trainer.global_step)
