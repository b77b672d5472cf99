"""A callback that is a subcommand of its own on the command line: it computes an outcome, of which a report is made."""

import os
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from editable.callbacks.run.context import (
    require_float32,
    require_whole_parameters,
    run_folder,
    run_folder_here,
)
from editable.callbacks.run.outcome_file import write_outcome
from editable.errors import Interrupted, UserError
from editable.tables import Table

__all__ = ["Subcommand"]


class Subcommand(Callback):
    """What ``python train.py <name>`` runs on a trained network: a callback in one of Lightning's loops.

    The constructor's arguments are the options ``--<name>.…``. What comes out is an outcome, frozen plain data; tables,
    figures and the report are functions of it alone, in the study's ``report.py``. The run's folder keeps it as
    ``<name>_outcome.pt``, from which :func:`~editable.callbacks.run.outcome_file.read_outcome` reads it, so that a
    report can be drawn again.

    Attributes:
        command: The subcommand's name.
        leaves: Names of the files that it leaves besides its report; where one is there already, it does not run.
        kept: Name of the file that an interrupted run is resumed from, by the option ``resume``; none where there is no
            such option.
        in_any_precision: Whether it runs where the network is not in float32, as by ``bf16-true``.
        outcome: What came out; none before it has run.
        resume: Folder of an interrupted run to go on with, if any; of those that keep what they have done.
    """

    command: ClassVar[str]
    leaves: ClassVar[tuple[str, ...]] = ()
    kept: ClassVar[str | None] = None
    in_any_precision: ClassVar[bool] = False
    outcome: Any = None
    resume: Any = None
    _own_folder: Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a strategy or precision that does not do, and a folder with somebody else's file in one's place."""
        require_whole_parameters(trainer, self.command)
        if not self.in_any_precision:
            require_float32(trainer, self.command)
        folder = run_folder(trainer)  # on every rank
        if folder == self._own_folder or not trainer.is_global_zero:
            return
        for name in (*self.leaves, f"{self.command}_outcome.pt"):
            if os.path.lexists(folder / name):
                raise UserError(
                    f"'{folder / name}' is there already and would be overwritten; choose another trainer.logger or "
                    "trainer.default_root_dir"
                )
        self._own_folder = folder

    @property
    def loop(self) -> Literal["test", "validate"]:
        """The loop of the trainer that the callback runs in."""
        return "test"

    @staticmethod
    @abstractmethod
    def summary(outcome: Any) -> Table:
        """Return the table that is printed once the callback has run."""

    @staticmethod
    @abstractmethod
    def write(outcome: Any, folder: Path) -> list[str]:
        """Write the report's tables and figures into a folder; return its sections in Markdown."""

    def table(self) -> Table:
        """Return what came out, to be printed."""
        assert self.outcome is not None, "there is a table once it has run"
        return self.summary(self.outcome)

    def report(self, trainer: Trainer, folder: Path) -> list[str]:
        """Keep the outcome, and write the report's tables and figures; return its sections in Markdown."""
        if self.outcome is None:
            return []
        write_outcome(folder / f"{self.command}_outcome.pt", self.outcome)
        return self.write(self.outcome, folder)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say that an interrupted run can be gone on with, where it has kept what it has done."""
        if isinstance(exception, Interrupted) and self.has_kept(folder := run_folder_here(trainer)):
            exception.advice = f"--{self.command}.resume {folder}"

    def has_kept(self, folder: Path) -> bool:
        """Return whether a run's folder holds what an interrupted run is resumed from."""
        return self.kept is not None and (folder / self.kept).is_file()

    def failure(self) -> str | None:
        """Return why the command has failed although it ran to its end, in one sentence; none where all is well."""
        return None
