"""The precision that a fit was begun in, which it keeps wherever it is gone on with."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

__all__ = ["KeptPrecision"]

KEY = "precision"
CHOSEN = ("32-true", "bf16-mixed")
"""What ``auto`` may stand for."""


class KeptPrecision(Callback):
    """Puts the precision of a fit into its checkpoints, and goes on from them in that, or says that it does not.

    Args:
        chosen: Whether the precision was chosen by the processor. It is the checkpoint's then, also on a processor on
            which another is faster; one that was asked for is kept, and what differs is said.
    """

    def __init__(self, chosen: bool) -> None:
        self._chosen = chosen

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the precision."""
        if trainer.state.fn == TrainerFn.FITTING:
            checkpoint[KEY] = str(trainer.precision)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Compare the precisions, before anything is computed."""
        trained, own = checkpoint.get(KEY), str(trainer.precision)
        if trainer.state.fn != TrainerFn.FITTING or trained in (None, own):
            return
        strategy = trainer.strategy
        plain = type(strategy.precision_plugin) in (Precision, MixedPrecision)  # not one of a strategy's own
        if not (self._chosen and plain and trained in CHOSEN):
            rank_zero_warn(
                f"the checkpoint was trained in {trained}, and is gone on with in {own}, the trainer.precision that is "
                "asked for: its weights will be others than those of an uninterrupted run; take "
                f"--trainer.precision={trained} to keep it"
            )
            return
        device = strategy.root_device.type
        strategy.precision_plugin = Precision() if trained == "32-true" else MixedPrecision("bf16-mixed", device)
        rank_zero_warn(
            f"the checkpoint was trained in {trained}, and is gone on with in that, though {own} is faster on this "
            f"processor; take --trainer.precision={own} for another training than it began as"
        )
