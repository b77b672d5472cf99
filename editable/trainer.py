"""The trainer of the command line, and the subcommands that Lightning's trainer lacks."""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Final, Literal

import torch
from lightning.fabric.connector import _PRECISION_INPUT
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.accelerators import Accelerator, CPUAccelerator, CUDAAccelerator
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from rich.console import Console

from editable.app import App
from editable.callbacks import (
    CorrectionStream,
    FewShotRules,
    FourTests,
    GeneratorRewriting,
    ImageEdit,
    InverseDirectionStudy,
    LearningRateSearch,
    Manipulation,
    NetworkExport,
    NewClass,
    RankOneRewrite,
    Seeing,
    SpuriousScan,
    Subcommand,
)
from editable.callbacks.run.context import run_folder
from editable.errors import UserError
from editable.interruptions import (
    CheckpointConnector,
    EndsWhereItDiverges,
    ExactResume,
    KeptPrecision,
    LastCheckpoint,
    SignalConnector,
    StopAtStep,
    WholeCheckpoints,
)
from editable.models.machine.full_precision import full_precision
from editable.models.machine.precision import fastest_training

__all__ = ["SUBCOMMANDS", "EditableTrainer"]

AUTO: Final = "auto"
LIMITS: Final[Mapping[Any, str]] = {
    TrainerFn.TESTING: "limit_test_batches",
    TrainerFn.VALIDATING: "limit_val_batches",
    TrainerFn.PREDICTING: "limit_predict_batches",
}
"""Of what the trainer does with a trained network: the option for how many batches of images it sees."""

SUBCOMMANDS: dict[str, type[Subcommand]] = {
    kind.command: kind
    for kind in (
        LearningRateSearch,
        ImageEdit,
        CorrectionStream,
        RankOneRewrite,
        FewShotRules,
        InverseDirectionStudy,
        GeneratorRewriting,
        FourTests,
        Manipulation,
        Seeing,
        SpuriousScan,
        NewClass,
        NetworkExport,
    )
}
"""What ``python train.py <name>`` runs besides Lightning's own: a line here and in the table of commands makes one."""


class EditableTrainer(Trainer):
    """Runs tasks, as Lightning's trainer does, and what else is done with trained networks.

    It has a method for each of :data:`SUBCOMMANDS`, which runs the callback of that kind among the trainer's own.

    Checkpoints are whole at every moment, the last weights of a fit are in ``checkpoints/last.ckpt``, and a fit goes on
    exactly from any checkpoint; one whose weights become NaN ends; see :mod:`editable.interruptions`. What it measures,
    it measures without TF32, and in a fit that averages weights (Lightning's ``WeightAveraging``), of their average.
    Without a logger or with ``fast_dev_run``, and without ``default_root_dir``, nothing is written into the working
    directory: what callbacks leave goes into a temporary folder, and with it.

    Args:
        precision: Lightning's, or ``auto``: what training is fastest in on this device, by a measured table, 32-true or
            bf16-mixed. A fit that is gone on with keeps the precision that it was begun in.
        kwargs: Those of :class:`lightning.pytorch.Trainer`.

    Attributes:
        keeps: Whether there is a place for what runs leave.
    """

    def __init__(self, precision: _PRECISION_INPUT | Literal["auto"] | None = None, **kwargs: Any) -> None:
        self.keeps = _keeps_what_it_leaves(kwargs)
        if not self.keeps:
            kwargs["default_root_dir"] = tempfile.mkdtemp(prefix="editable-")
            weakref.finalize(self, shutil.rmtree, kwargs["default_root_dir"], ignore_errors=True)
        _add_callbacks(kwargs, KeptPrecision(chosen=precision == AUTO))
        own = _fastest(kwargs) if precision == AUTO else precision
        super().__init__(precision=own, **kwargs)  # the command line looks here for the options
        self.callbacks.append(StopAtStep(keeps=self.keeps))  # type: ignore[attr-defined]
        self._signal_connector = SignalConnector(self)
        self._checkpoint_connector = CheckpointConnector(self)
        if type(self.strategy.checkpoint_io) is TorchCheckpointIO:  # none was given
            self.strategy.checkpoint_io = WholeCheckpoints()

    def _run_stage(self) -> Any:
        """Train as Lightning does; whatever measures a network does it in full precision, as its figures say.

        Raises:
            UserError: If a limit leaves what measures the network without a batch.
        """
        limit = LIMITS.get(self.state.fn)
        if limit is not None and getattr(self, limit) == 0:
            raise UserError(f"trainer.{limit} is 0, which leaves no image to work on: leave it out, or give at least 1")
        with nullcontext() if self.training else full_precision():
            return super()._run_stage()

    def app(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Opens a page in the browser on which the tested network is corrected, and corrections are taken back.

        Args:
            model: The task whose network is corrected.
            datamodule: The images; by default the task's own.
            ckpt_path: Checkpoint of the network, and of an editor's learnt constants.
            weights_only: Read the checkpoint as data, never as code.
        """
        if not any(isinstance(callback, App) for callback in self.callbacks):  # type: ignore[attr-defined]
            raise UserError("the trainer has no App among its callbacks")
        self.test(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=weights_only, verbose=False)

    def _run_subcommand(self, kind: type[Subcommand], model: LightningModule, **loop_arguments: Any) -> None:
        callbacks = [callback for callback in self.callbacks if isinstance(callback, kind)]  # type: ignore[attr-defined]
        if not callbacks:
            raise UserError(f"the trainer has no {kind.__name__} among its callbacks")
        callback = callbacks[0]
        if isinstance(self.strategy.launcher, _MultiProcessingLauncher):
            raise UserError(
                f"{callback.command} leaves its outcome in the process that computes it, which this strategy starts "
                "and ends: use trainer.strategy=ddp"
            )
        getattr(self, callback.loop)(model, verbose=False, **loop_arguments)
        folder = run_folder(self)  # on every rank
        if self.is_global_zero:
            if callback.outcome is None:
                raise UserError(f"{callback.command} had no batch of images to {callback.loop} on: give more data")
            console = Console()
            console.print(callback.table().terminal())
            if self.keeps:
                console.print(f"Report and figures: {folder}", soft_wrap=True, markup=False)
        failure = callback.failure()
        if failure is not None:
            raise UserError(failure)


def _keeps_what_it_leaves(settings: dict[str, Any]) -> bool:
    """Return whether these settings give the run a place of its own; say so where they do not."""
    logger, tries = settings.get("logger"), settings.get("fast_dev_run")
    if ((logger is None or logger) and not tries) or settings.get("default_root_dir"):
        return True
    why = "trainer.fast_dev_run is set" if tries else "trainer.logger is false"
    rank_zero_warn(
        f"{why}: the run's configuration, metrics, report, checkpoints and whatever else it leaves are not kept; give "
        "trainer.default_root_dir to keep them."
    )
    return False


def _fastest(settings: dict[str, Any]) -> Literal["32-true", "bf16-mixed"]:
    """Return the precision that is fastest where these settings of the trainer run."""
    return fastest_training(_device_type(settings.get("accelerator", AUTO)))


def _device_type(accelerator: Any) -> str:
    """Return on what Lightning will run, as far as that decides a precision: ``cpu``, ``cuda`` or another."""
    if isinstance(accelerator, Accelerator):
        return {CPUAccelerator: "cpu", CUDAAccelerator: "cuda"}.get(type(accelerator), "meta")
    if accelerator in (AUTO, "gpu", "cuda") and torch.cuda.is_available():
        return "cuda"
    others = accelerator in (AUTO, "gpu", "mps") and torch.backends.mps.is_available()
    return "mps" if others else "cpu"


def _add_callbacks(settings: dict[str, Any], kept_precision: KeptPrecision) -> None:
    """Add those of every run to the user's; Lightning's default checkpoint is not made where there is another.

    Averages of weights come behind all but checkpoints, which Lightning moves last: they put the average away when a
    validation ends, and whatever measures the network then, edits for example, is to find what was validated.
    """
    given = settings.get("callbacks") or []
    callbacks = [given] if isinstance(given, Callback) else list(given)
    if settings.get("enable_checkpointing") in (None, True):
        callbacks.append(LastCheckpoint())
    callbacks += [ExactResume(), EndsWhereItDiverges(), kept_precision]
    settings["callbacks"] = sorted(callbacks, key=lambda callback: isinstance(callback, WeightAveraging))


def _method(name: str, kind: type[Subcommand]) -> Callable[..., None]:
    """Make the trainer's method for a subcommand; its signature and docstring are what the command line shows."""

    def run(
        self: EditableTrainer,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        self._run_subcommand(kind, model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=weights_only)

    summary = (kind.__doc__ or "").strip().partition("\n\n")[0]
    run.__name__, run.__qualname__ = name, f"{EditableTrainer.__name__}.{name}"
    run.__doc__ = f"""{summary}

    Args:
        model: The task whose network is looked at.
        datamodule: The images; by default the task's own.
        ckpt_path: Checkpoint of the network, and of an editor's learnt constants.
        weights_only: Read the checkpoint as data, never as code.

    Raises:
        UserError: If the callback has failed; what it found is written nevertheless.
    """
    return run


for _name, _kind in SUBCOMMANDS.items():
    setattr(EditableTrainer, _name, _method(_name, _kind))
