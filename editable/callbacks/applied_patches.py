"""Edit patches put into the network for the time of a run."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from editable.callbacks.run.context import network_of
from editable.callbacks.run.edit_loop import validates_alone
from editable.data.classes import check_same_classes
from editable.editing import EditPatch

__all__ = ["AppliedPatches"]


class AppliedPatches(Callback):
    """Runs a test, validation or prediction, and what else is done with a trained network, on the patched network.

    The patches are put in one after the other once the checkpoint is loaded, and taken back at the end of the run. It
    has no part in a fit.

    Args:
        files: What edits and rewrites have left, in the order in which they were made.

    Raises:
        UserError: If a file is missing, broken or no patch; when the run starts, if a patch was made for other weights
            or classes.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self.patches = {str(path): EditPatch.load(path) for path in files}
        self._applied = ExitStack()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the patches in."""
        self._apply(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the patches in."""
        if validates_alone(trainer):
            self._apply(trainer, pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the patches in."""
        self._apply(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the patches back."""
        self._applied.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take the patches back."""
        self._applied.close()

    def report(self, trainer: Trainer, folder: Path) -> list[str]:
        """Tell in the report which patches there were and what they had been asked for."""
        told = [
            f"- `{path}`: {'; '.join(patch.record.asked) or 'it does not say what was asked'}"
            for path, patch in self.patches.items()
        ]
        return ["\n".join(["## Patches\n\nThe network had these patches, one after the other:\n", *told, ""])]

    def _apply(self, trainer: Trainer, pl_module: LightningModule) -> None:
        classes = getattr(trainer.datamodule, "classes", None)  # type: ignore[attr-defined]
        for path, patch in self.patches.items():
            if patch.record.classes is not None and classes is not None:
                otherwise = "give data with the same classes"
                check_same_classes(patch.record.classes, classes, f"the patch '{path}'", otherwise)
            self._applied.enter_context(patch.applied(network_of(pl_module), f"the patch '{path}'"))
