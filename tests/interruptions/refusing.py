"""A callback by which one of several processes refuses."""

from lightning.pytorch import Callback

from editable.errors import UserError


class Refuses(Callback):
    """Raises a user's mistake on one process, behind a training step or before the edits of a test.

    Args:
        rank: Of that process.
    """

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def on_train_batch_end(self, trainer, *args):
        self._refuse(trainer)

    def on_test_epoch_end(self, trainer, *args):
        self._refuse(trainer)

    def _refuse(self, trainer):
        if trainer.global_rank == self.rank:
            raise UserError(f"process {self.rank} refuses")
