"""The folder that a run writes into: of no other run, there before anything is computed, and gone if nothing came."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.trainer.states import TrainerFn

from editable.callbacks.run.context import run_folder
from editable.errors import UserError
from editable.mistakes import users_mistake

__all__ = ["new_run_folder"]

OUTCOMES = ("config.yaml", "metrics.json")
"""What a run leaves at its beginning and at its end."""
RUN_OPTIONS = "trainer.logger.save_dir or trainer.default_root_dir"
BEGINNINGS = ("config.yaml", "hparams.yaml", "metrics.csv", "events.out.tfevents.*")
"""What a run writes before anything has come of it."""
SEARCHES = (".scale_batch_size_*.ckpt", ".lr_find_*.ckpt")
"""Where Lightning's finders put the weights while they search."""


@contextmanager
def new_run_folder(trainer: Trainer) -> Iterator[None]:
    """Make sure of a run's folder, and remove it where the run ends in a user's mistake before anything has come of it.

    What of a run is worth keeping begins with the first training step, and with the first file that is more than its
    configuration and an empty log. A run that leaves nothing, by ``fast_dev_run``, needs no folder.

    Args:
        trainer: Of the run, before it begins.

    Raises:
        UserError: If the folder is another run's, or cannot be written to.
    """
    if trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
        yield
        return
    root = Path(trainer.default_root_dir)
    searches = _searches(root)
    folder, missing = _made(lambda: run_folder(trainer), "the run's folder", RUN_OPTIONS)
    other = next((folder / name for name in OUTCOMES if (folder / name).exists()), None)
    if other is not None:
        raise UserError(f"'{other}' is of another run, which would be overwritten; choose another {RUN_OPTIONS}")
    there = set(folder.iterdir())
    try:
        missing += [*_made_for_checkpoints(trainer), *_made_for_profiler(trainer, folder)]
        yield
    except Exception as error:
        added = set(folder.iterdir()) - there
        new = {path for some in added for path in (some, *some.rglob("*")) if not path.is_dir()}
        missing += [some for some in added if some.is_dir()]
        begun = trainer.global_step > 0 or any(not _is_beginning(path) for path in new)
        if not begun and (users_mistake(error) is not None or folder / "config.yaml" not in new):
            for path in new:
                path.unlink(missing_ok=True)
        for path in _searches(root) - searches:
            path.unlink(missing_ok=True)
        raise
    finally:
        _remove_empty(missing)


def _made_for_checkpoints(trainer: Trainer) -> list[Path]:
    """Make the folders that checkpoints are asked into; return those that were not there before."""
    callbacks = trainer.checkpoint_callbacks if trainer.state.fn in (None, TrainerFn.FITTING) else []
    asked = [some.dirpath for some in callbacks if isinstance(some, ModelCheckpoint | OnExceptionCheckpoint)]
    made = []
    for path in asked:
        if path is not None and "://" not in str(path):
            made += _made(partial(Path, path), "the folder of checkpoints", "dirpath")[1]
    return made


def _made_for_profiler(trainer: Trainer, folder: Path) -> list[Path]:
    """Make the folder that a profile is asked into, and look at the file's name; return what was not there before."""
    profiler = trainer.profiler  # type: ignore[attr-defined]
    if not isinstance(profiler, Profiler) or not (profiler.filename or profiler.dirpath):
        return []
    if "://" in str(profiler.dirpath):
        return []
    longest = profiler._prepare_filename(f"{TrainerFn.VALIDATING}-0")
    return _made(lambda: Path(profiler.dirpath or folder), "the folder of the profile", "dirpath", longest)[1]


def _made(where: Callable[[], Path], what: str, option: str, name: str = "") -> tuple[Path, list[Path]]:
    """Make a folder that a file of some name can be written to.

    Returns:
        The folder, and the folders that were not there before, the innermost first.
    """
    folder, missing = Path(), []
    try:
        folder = where()
        real = Path(os.path.realpath(folder))
        missing = [some for some in (real, *real.parents) if not os.path.lexists(some)]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder), suppress(FileNotFoundError):
            (folder / name).lstat()
    except (OSError, ValueError) as error:  # a ValueError where a path holds a zero byte
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        place = getattr(error, "filename", None) or folder
        _remove_empty(missing)
        raise UserError(f"{what} cannot be made or written to, '{place}': {reason}; choose another {option}") from error
    return folder, missing


def _searches(root: Path) -> set[Path]:
    return {path for pattern in SEARCHES for path in root.glob(pattern)}


def _is_beginning(path: Path) -> bool:
    return any(path.match(pattern) for pattern in BEGINNINGS)


def _remove_empty(missing: list[Path]) -> None:
    """Remove folders that were made for the run, as far as they are empty, from the innermost out."""
    there = [folder for folder in missing if os.path.lexists(folder)]
    inside = {path for folder in there for path in folder.rglob("*") if path.is_dir()}
    for path in sorted({*there, *inside}, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):  # it is not empty, or gone
            path.rmdir()
