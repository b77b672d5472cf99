"""What an edit that is kept leaves: a patch and the whole edited network in the run's folder, and a line in the log."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor, nn

from editable.callbacks.applied_patches import AppliedPatches
from editable.callbacks.run.context import run_folder
from editable.editing import EditPatch, EditRecord
from editable.editing.patches.correction_log import append_corrections, entries_of, log_path
from editable.errors import UserError
from editable.models.state_dicts import tensors_of
from editable.models.tied import spread_tied

__all__ = ["config_of", "first_base", "log_folder", "put_edited", "write_edit", "write_patch"]

LOGS = "corrections"
"""Folder of logs, beside those of runs."""


def write_patch(
    trainer: Trainer,
    path: Path,
    network: nn.Module,
    params: Mapping[str, Tensor],
    records: EditRecord | Sequence[EditRecord],
    command: str,
    log: bool | str,
) -> None:
    """Write a patch, and then what it is into the log of corrections.

    Args:
        trainer: Of the run.
        path: Of the file.
        network: The unedited network; furnished, where the editor has asked for a layer of its own.
        params: Edited parameters by name.
        records: What was asked and what came out, of one edit or of each.
        command: The subcommand.
        log: The folder of logs; or whether there is a log, in the folder ``corrections`` beside those of runs.

    Raises:
        UserError: If the log cannot be written; the patch is kept then.
    """
    patch = EditPatch.of(network, params, records)
    patch.save(path)
    if log is False:
        return
    base = first_base(trainer) or patch.base
    there = log_path(log_folder(trainer, path.parent) if log is True else log, base)
    try:
        append_corrections(there, entries_of(patch, path, command, base))
    except OSError as error:
        raise UserError(
            f"the correction is kept as '{path}', but cannot be told of in the log '{there}' ({error.strerror}): give "
            f"another folder by {command}.log, or false for none"
        ) from error


def write_edit(
    trainer: Trainer,
    network: nn.Module,
    params: Mapping[str, Tensor],
    record: EditRecord | Sequence[EditRecord],
    patch: str,
    checkpoint: str,
    command: str,
    log: bool | str = True,
) -> None:
    """Write patch, checkpoint and log; a collective operation, so to be called on every rank.

    Args:
        trainer: Of the run; a callback of it has to call :func:`put_edited` when the checkpoint is saved.
        network: The unedited network; furnished, where the editor has asked for a layer of its own.
        params: Edited parameters by name.
        record: What was asked and what came out, of one edit or of each.
        patch: Name of the patch's file.
        checkpoint: Name of the checkpoint's file.
        command: The subcommand.
        log: As in :func:`write_patch`.
    """
    folder = run_folder(trainer)
    trainer.save_checkpoint(folder / checkpoint, weights_only=False)
    if trainer.is_global_zero:
        write_patch(trainer, folder / patch, network, params, record, command, log)


def first_base(trainer: Trainer) -> str | None:
    """Return the fingerprint of the weights without any patch, where the run has put patches in."""
    applied = [some for some in trainer.callbacks if isinstance(some, AppliedPatches)]  # type: ignore[attr-defined]
    return next((patch.base for some in applied for patch in some.patches.values()), None)


def put_edited(checkpoint: dict[str, Any], network: nn.Module, params: Mapping[str, Tensor]) -> None:
    """Put an edited network in place of the task's own, in a task's checkpoint alone.

    A tensor that the network holds under several names is in the checkpoint under all of them; a layer that the editor
    has asked for is in it too.

    Args:
        checkpoint: Of the task.
        network: The unedited network, furnished.
        params: Edited parameters by name.
    """
    state = checkpoint["state_dict"]
    own = {f"network.{name}": some for name, some in tensors_of(network).items()}
    there = {name for name, some in state.items() if name.startswith("network.") and isinstance(some, Tensor)}
    if own.keys() != there:
        for name in there:
            del state[name]
        state |= {name: some.detach().clone() for name, some in own.items()}
    for name, tensor in spread_tied(network, params).items():
        state[f"network.{name}"] = tensor.detach().clone()


def config_of(trainer: Trainer) -> str | None:
    """Return the configuration file of the run, from which it can be made again; none where it has none."""
    path = run_folder(trainer) / "config.yaml"
    return str(path) if path.is_file() else None


def log_folder(trainer: Trainer, folder: Path) -> Path:
    """Return the folder of logs: beside those of the logger's runs, or where a run without one leaves all else.

    Args:
        trainer: Of the run.
        folder: The run's, which has the logs of one that leaves nothing.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return folder / LOGS
    return Path(trainer.loggers[0].save_dir or folder if trainer.loggers else trainer.default_root_dir) / LOGS
