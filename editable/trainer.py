"""The trainer of the command line, and the subcommands that Lightning's trainer lacks."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from rich.console import Console

from editable.callbacks import (
    FourTests,
    GeneratorRewriting,
    ImageEdit,
    InverseDirectionStudy,
    LearningRateSearch,
    Manipulation,
    NewClass,
    RankOneRewrite,
    Seeing,
    SpuriousScan,
    Subcommand,
)
from editable.callbacks.run.context import run_folder
from editable.errors import UserError

__all__ = ["SUBCOMMANDS", "EditableTrainer"]

SUBCOMMANDS: dict[str, type[Subcommand]] = {
    kind.command: kind
    for kind in (
        LearningRateSearch,
        ImageEdit,
        RankOneRewrite,
        InverseDirectionStudy,
        GeneratorRewriting,
        FourTests,
        Manipulation,
        Seeing,
        SpuriousScan,
        NewClass,
    )
}
"""What ``python train.py <name>`` runs besides Lightning's own: a line here makes a subcommand."""


class EditableTrainer(Trainer):
    """Runs tasks, as Lightning's trainer does, and what else is done with trained networks.

    It has a method for each of :data:`SUBCOMMANDS`, which runs the callback of that kind among the trainer's own.
    """

    def _run_subcommand(self, kind: type[Subcommand], model: LightningModule, **loop_arguments: Any) -> None:
        callbacks = [callback for callback in self.callbacks if isinstance(callback, kind)]  # type: ignore[attr-defined]
        if not callbacks:
            raise UserError(f"the trainer has no {kind.__name__} among its callbacks")
        callback = callbacks[0]
        getattr(self, callback.loop)(model, verbose=False, **loop_arguments)
        folder = run_folder(self)  # on every rank
        if self.is_global_zero:
            console = Console()
            console.print(callback.table().terminal())
            if not self.fast_dev_run:  # type: ignore[attr-defined]
                console.print(f"Report and figures: {folder}", soft_wrap=True, markup=False)
        failure = callback.failure()
        if failure is not None:
            raise UserError(failure)


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
