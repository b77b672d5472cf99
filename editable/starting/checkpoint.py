"""The checkpoint that a run starts from: a file, or a word that stands for one."""

import re
import warnings
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning_utilities.core.imports import module_available

from editable.errors import UserError
from editable.models import read_checkpoint

__all__ = ["check_checkpoint", "find_checkpoint", "stands_for_a_file"]

WORDS = ("last", "best", "hpc")
REGISTRY = re.compile(r"registry(:.*)?", re.IGNORECASE)


def stands_for_a_file(path: str) -> bool:
    """Return whether this is no path: a word that Lightning knows, or a URL."""
    return path in WORDS or REGISTRY.fullmatch(path) is not None or "://" in path


def check_checkpoint(path: str) -> None:
    """Look whether a file is a Lightning checkpoint, before anything is computed.

    Raises:
        UserError: If it is none.
    """
    checkpoint = read_checkpoint(path)
    if not isinstance(checkpoint, dict) or "pytorch-lightning_version" not in checkpoint:
        raise UserError(f"'{path}' is no checkpoint of a Lightning run; give weights alone as model.weights")


def find_checkpoint(asked: str, trainer: Trainer) -> str:
    """Return the file that a word stands for: ``last``, ``best``, ``hpc`` or ``registry:…``.

    Args:
        asked: As it was given; a path or a URL is returned as it is.
        trainer: Of the run, whose callbacks and folders say where to look.

    Raises:
        UserError: If there is no such checkpoint; it names the folder that was looked in.
    """
    if REGISTRY.fullmatch(asked) and not module_available("litmodels"):
        raise UserError(f"ckpt_path is '{asked}', which needs the package litmodels: install it, or give a path")
    if asked not in WORDS:
        return asked
    connector = trainer._checkpoint_connector
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = connector._parse_ckpt_path(TrainerFn.FITTING, asked, model_provided=True, model_connected=False)
        except ValueError:
            found = None
    if found is None:
        why = {
            "last": f"there is no last checkpoint in {_folders(trainer)}",
            "best": "which checkpoint was best is known to the process that trained alone; this one's go into "
            f"{_folders(trainer)}",
            "hpc": f"there is no checkpoint of a scheduler in '{Path(trainer.default_root_dir)}'",
        }
        raise UserError(f"ckpt_path is '{asked}', but {why[asked]}: give the path of a checkpoint")
    check_checkpoint(str(found))
    return str(found)


def _folders(trainer: Trainer) -> str:
    """Return the folders that the run's checkpoint callbacks write into, as a message names them."""
    callbacks = [some for some in trainer.checkpoint_callbacks if isinstance(some, ModelCheckpoint)]
    folders = [str(some._ModelCheckpoint__resolve_ckpt_dir(trainer)) for some in callbacks]  # type: ignore[attr-defined]
    return ", ".join(f"'{folder}'" for folder in dict.fromkeys(folders)) or "any folder, for the run keeps none"
