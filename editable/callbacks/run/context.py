"""What callbacks ask of the run that they are part of: its folder, its network, its images, and gradients."""

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import cast

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import nn

from editable.data import ImageDataModule
from editable.errors import UserError

__all__ = [
    "datamodule_of",
    "image_data",
    "leaves_nothing",
    "network_of",
    "optional_path",
    "require_float32",
    "require_gradients",
    "require_tensors",
    "require_whole_parameters",
    "run_folder",
    "run_folder_here",
]


def run_folder(trainer: Trainer) -> Path:
    """Return the run's log folder; a collective operation, so to be called on every rank.

    A ``fast_dev_run`` leaves nothing: it has a temporary folder, which goes with the trainer.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return _temporary_folder(trainer)
    return Path(trainer.log_dir or trainer.default_root_dir)


def _temporary_folder(trainer: Trainer) -> Path:
    folder = getattr(trainer, "_temporary_folder", None)
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="fast_dev_run-"))
        trainer._temporary_folder = folder  # type: ignore[attr-defined]
        weakref.finalize(trainer, shutil.rmtree, folder, ignore_errors=True)
    return folder


def optional_path(path: str | None) -> Path | None:
    """Return what an option names, also below ``~``; none where it names nothing."""
    return None if path is None else Path(path).expanduser()


def leaves_nothing(trainer: Trainer) -> bool:
    """Return whether the run's folder goes with the trainer: by ``fast_dev_run``, or where it has no place to stay."""
    return bool(trainer.fast_dev_run) or not getattr(trainer, "keeps", True)  # type: ignore[attr-defined]


def run_folder_here(trainer: Trainer) -> Path:
    """Return the run's log folder as this process alone knows it: where others may not be there to answer."""
    folder = getattr(trainer.loggers[0], "log_dir", None) if trainer.loggers else None
    return Path(folder or trainer.default_root_dir)


def network_of(pl_module: LightningModule) -> nn.Module:
    """Return a task's network."""
    return cast(nn.Module, pl_module.network)


def datamodule_of(trainer: Trainer) -> LightningDataModule | None:
    """Return the run's data module, of whatever kind; none where the task brings its own loaders."""
    return trainer.datamodule  # type: ignore[attr-defined]


def image_data(trainer: Trainer, what: str) -> ImageDataModule:
    """Return the run's data module.

    Args:
        trainer: Of the run.
        what: What needs it, for the message: ``a rewrite``.

    Raises:
        UserError: If it is no data module of images.
    """
    data = datamodule_of(trainer)
    if not isinstance(data, ImageDataModule):
        raise UserError(
            f"{what} needs a data module of images that knows its classes and normalisation, an ImageDataModule, got "
            f"{type(data).__name__}"
        )
    return data


def require_float32(trainer: Trainer, what: str) -> None:
    """Raise a :class:`UserError` where the trainer turns a network into another type than float32.

    Args:
        trainer: Of the run.
        what: What needs float32, for the message: ``rewrite``.
    """
    if trainer.precision in ("16-true", "bf16-true", "64-true"):
        raise UserError(
            f"trainer.precision is {trainer.precision}, but {what} looks at a network in float32: take 32-true, or "
            "bf16-mixed, which computes its predictions in bfloat16"
        )


def require_whole_parameters(trainer: Trainer, what: str) -> None:
    """Raise a :class:`UserError` where the trainer's strategy leaves each process a part of the parameters.

    Args:
        trainer: Of the run.
        what: What needs all of them, for the message: ``rewrite``.
    """
    if isinstance(trainer.strategy, ModelParallelStrategy):
        raise UserError(
            f"{what} needs the parameters whole, and {type(trainer.strategy).__name__} shares them out: use "
            "trainer.strategy=ddp here"
        )
    require_tensors(trainer, what)


def require_tensors(trainer: Trainer, what: str) -> None:
    """Raise a :class:`UserError` where a strategy puts something else in the place of parameters than torch's tensors.

    FSDP2 and tensor parallelism (Lightning's ``ModelParallelStrategy``) leave distributed tensors in their places.

    Args:
        trainer: Of the run.
        what: What needs them, for the message: ``an evaluation of edits``.
    """
    if isinstance(trainer.strategy, FSDPStrategy | DeepSpeedStrategy):
        raise UserError(
            f"{what} needs the parameters whole, and {type(trainer.strategy).__name__} shares them out: use "
            "trainer.strategy=ddp here"
        )


def require_gradients(inference_mode: bool, what: str) -> None:
    """Raise a :class:`UserError` where Lightning's inference mode makes gradients impossible.

    Args:
        inference_mode: Whether the loop is in it.
        what: What needs gradients, for the message: ``an edit needs gradients``.
    """
    if inference_mode:
        raise UserError(f"{what}, but the trainer is in inference mode: use Trainer(inference_mode=False)")
