"""A callback that waits for a signal in the midst of a step, for runs in processes of their own."""

import time
from pathlib import Path

from lightning.pytorch import Callback

from editable.interruptions import StopSignals

__all__ = ["WaitsForSignal"]


class WaitsForSignal(Callback):
    """Says that a step has begun by a file ``reached-<rank>`` in the working folder, and waits there.

    Args:
        step: Which one.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        """Wait."""
        if trainer.global_step == self.step:
            Path(f"reached-{trainer.global_rank}").touch()
            while StopSignals.current().received is None:
                time.sleep(0.02)
