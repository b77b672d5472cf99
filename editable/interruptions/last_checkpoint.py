"""The last weights of a fit in ``checkpoints/last.ckpt`` of its folder, whatever else is saved and when."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

__all__ = ["LastCheckpoint"]

NAME = "last"


class LastCheckpoint(ModelCheckpoint):
    """Saves ``last.ckpt`` after each epoch where nothing else saves checkpoints, and when a fit ends in any case.

    A user's own :class:`~lightning.pytorch.callbacks.ModelCheckpoint` takes over during the fit; at its end
    ``last.ckpt`` is written unless one of them has written it at this very step. Added by
    :class:`~editable.trainer.EditableTrainer`, in place of Lightning's default.
    """

    def __init__(self) -> None:
        super().__init__(filename=NAME, enable_version_counter=False, save_on_train_epoch_end=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, where nothing else does."""
        if not self._others(trainer):
            super().on_train_epoch_end(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save them also where a resumed fit had nothing left to train."""
        self.on_train_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last weights, unless they are there."""
        if not self._should_skip_saving_checkpoint(trainer) and not any(
            _has_saved(some, trainer.global_step) for some in self._others(trainer)
        ):
            self.save(trainer)

    def save(self, trainer: Trainer, name: str = NAME) -> Path:
        """Save now; a collective operation.

        Args:
            trainer: Of the fit.
            name: Of the file, without its ending.

        Returns:
            The checkpoint.
        """
        path = Path(str(self.dirpath)) / f"{name}{self.FILE_EXTENSION}"
        if name == NAME:
            self.best_model_path = self.last_model_path = str(path)  # part of the state that is saved
        self._save_checkpoint(trainer, str(path))
        return path

    def _others(self, trainer: Trainer) -> list[ModelCheckpoint]:
        callbacks: list[Any] = trainer.checkpoint_callbacks
        return [some for some in callbacks if isinstance(some, ModelCheckpoint) and some is not self]


def _has_saved(other: ModelCheckpoint, step: int) -> bool:
    """Return whether another callback has saved the weights of a step under this name."""
    paths = (other.last_model_path, other.best_model_path, other._last_checkpoint_saved)
    return other._last_global_step_saved == step and NAME in {Path(path).stem for path in paths}
