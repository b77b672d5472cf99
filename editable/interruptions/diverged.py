"""A fit whose weights become NaN ends with a sentence, and leaves no checkpoint of them."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from editable.errors import UserError
from editable.models import check_weights

__all__ = ["EndsWhereItDiverges"]


class EndsWhereItDiverges(Callback):
    """Ends a fit that has diverged, where it would go on to its end and leave weights that mean nothing.

    The loss is looked at as often as it is logged (``trainer.log_every_n_steps``), so that no other step waits for it;
    weights where it is NaN or infinite, and whenever a checkpoint is to be saved, so that the one before stays. An
    infinite loss of right weights, which float16 has where it scales the loss too far, ends nothing. Added by
    :class:`~editable.trainer.EditableTrainer`.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Look at the loss now and then, and at the weights where it is no number."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else None
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        is_due = every and trainer.global_step % every == 0
        if is_due and isinstance(loss, Tensor) and not loss.isfinite().all():
            self._look(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: object) -> None:
        """Look at the weights before they are saved."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._look(trainer, pl_module)

    @staticmethod
    def _look(trainer: Trainer, pl_module: LightningModule) -> None:
        try:
            check_weights(pl_module)
        except UserError as error:
            what = str(error).partition(", and figures")[0]
            raise UserError(
                f"training has diverged, within {trainer.global_step} steps: {what}; "
                "train with a lower learning rate, or limit gradients by trainer.gradient_clip_val"
            ) from error
