"""The trainer of the command line: each of its methods that Lightning's lacks is a further subcommand."""

from typing import TypeVar

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from rich.console import Console

from editable.callbacks import LearningRateSearch, RankOneRewrite
from editable.errors import UserError

__all__ = ["EditableTrainer"]

_Callback = TypeVar("_Callback", bound=Callback)


class EditableTrainer(Trainer):
    """Runs tasks, as Lightning's trainer does, and what else is done with trained networks.

    Each further method runs a callback of its own through the ``test`` or ``validate`` loop.
    """

    def search(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> float:
        """Find the learning rate at which the editor costs least, by held-out edits.

        Args:
            model: The task whose network is edited.
            datamodule: The images; by default the task's own.
            ckpt_path: Checkpoint of the network, and of an editor's learnt constants.
            weights_only: Read the checkpoint as data, never as code.

        Returns:
            The learning rate that was chosen.

        Raises:
            UserError: If none has enough successes; table and figure are written nevertheless.
        """
        search = self._callback(LearningRateSearch)
        loop = self.test if search.split == "test" else self.validate
        loop(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=weights_only, verbose=False)
        if self.is_global_zero:
            console = Console()
            console.print(search.table())
            console.print(f"Report and figure: {self.log_dir or self.default_root_dir}", soft_wrap=True)
        if search.chosen is None:
            raise UserError(search.advice)
        return search.chosen.learning_rate

    def rewrite(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Rewrite a layer so that the network takes one concept for another, and tell what that does.

        Args:
            model: The task whose network is rewritten.
            datamodule: The images; by default the task's own.
            ckpt_path: Checkpoint of the network.
            weights_only: Read the checkpoint as data, never as code.

        Raises:
            UserError: If no candidate corrects anything at the allowed drop; tables are written nevertheless.
        """
        rewrite = self._callback(RankOneRewrite)
        self.test(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=weights_only, verbose=False)
        if self.is_global_zero:
            console = Console()
            console.print(rewrite.table())
            console.print(f"Report and figures: {self.log_dir or self.default_root_dir}", soft_wrap=True)
        if rewrite.chosen is None:
            raise UserError(
                f"none of {len(rewrite.trials)} candidates corrects an error at a drop of at most "
                f"{100 * rewrite.max_drop:g} points on the images that choose: try other layers, solvers or strengths, "
                "or allow a larger rewrite.max_drop"
            )

    def _callback(self, kind: type[_Callback]) -> _Callback:
        """Return the one callback of a kind."""
        for callback in self.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, kind):
                return callback
        raise UserError(f"the trainer has no {kind.__name__} among its callbacks")
