"""What an edit that is kept leaves in the run's folder: a patch, and the whole edited network as a checkpoint."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor, nn

from editable.callbacks.run.context import run_folder
from editable.editing import EditPatch, EditRecord
from editable.models.tied import spread_tied

__all__ = ["put_edited", "write_edit"]


def write_edit(
    trainer: Trainer, network: nn.Module, params: Mapping[str, Tensor], record: EditRecord, patch: str, checkpoint: str
) -> None:
    """Write both files; a collective operation, so to be called on every rank.

    Args:
        trainer: Of the run; a callback of it has to call :func:`put_edited` when the checkpoint is saved.
        network: The unedited network.
        params: Edited parameters by name.
        record: What was asked and what came out.
        patch: Name of the patch's file.
        checkpoint: Name of the checkpoint's file.
    """
    folder = run_folder(trainer)
    if trainer.is_global_zero:
        EditPatch.of(network, params, record).save(folder / patch)
    trainer.save_checkpoint(folder / checkpoint, weights_only=False)


def put_edited(checkpoint: dict[str, Any], network: nn.Module, params: Mapping[str, Tensor]) -> None:
    """Put edited parameters in place of the network's own, in a task's checkpoint alone.

    A tensor that the network holds under several names is in the checkpoint under all of them.
    """
    for name, tensor in spread_tied(network, params).items():
        checkpoint["state_dict"][f"network.{name}"] = tensor.detach().clone()
