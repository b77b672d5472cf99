"""A callback that is a subcommand of its own on the command line."""

from abc import abstractmethod
from typing import Literal

from lightning.pytorch import Callback
from rich.table import Table

__all__ = ["Subcommand"]


class Subcommand(Callback):
    """What ``python train.py <name>`` runs on a trained network: a callback in one of Lightning's loops.

    The constructor's arguments are the options ``--<name>.…``. :mod:`editable.trainer` has the names.
    """

    @property
    def loop(self) -> Literal["test", "validate"]:
        """The loop of the trainer that the callback runs in."""
        return "test"

    @abstractmethod
    def table(self) -> Table:
        """Return what came out, to be printed once the callback has run."""

    def failure(self) -> str | None:
        """Return why the command has failed although it ran to its end, in one sentence; none where all is well."""
        return None
