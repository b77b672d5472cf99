"""The folder that a run writes into: of no other run, there before anything is computed, and gone if nothing came."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lightning.pytorch import Trainer

from editable.callbacks.run.context import run_folder
from editable.errors import UserError
from editable.mistakes import users_mistake

__all__ = ["new_run_folder"]

OUTCOMES = ("config.yaml", "metrics.json")
"""What a run leaves at its beginning and at its end."""
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
    folder, missing = _made(trainer)
    there = _files(folder)
    try:
        yield
    except Exception as error:
        new = _files(folder) - there
        begun = trainer.global_step > 0 or any(not _is_beginning(path) for path in new)
        if not begun and (users_mistake(error) is not None or folder / "config.yaml" not in new):
            for path in new:
                path.unlink(missing_ok=True)
        for path in _searches(root) - searches:
            path.unlink(missing_ok=True)
        raise
    finally:
        _remove_empty(folder, missing)


def _made(trainer: Trainer) -> tuple[Path, list[Path]]:
    """Make the folder; return it with those that were not there before, the innermost first."""
    folder = Path()
    try:
        folder = run_folder(trainer)
        missing = [some for some in (folder, *folder.parents) if not some.exists()]
        other = next((folder / name for name in OUTCOMES if (folder / name).exists()), None)
        if other is None:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    except (OSError, ValueError) as error:  # a ValueError where a path holds a zero byte
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        where = f"'{getattr(error, 'filename', None) or folder}'"
        raise UserError(
            f"the run's folder cannot be made or written to, {where}: {reason}; choose another trainer.logger.save_dir "
            "or trainer.default_root_dir"
        ) from error
    if other is not None:
        raise UserError(
            f"'{other}' is of another run, which would be overwritten; choose another trainer.logger or "
            "trainer.default_root_dir"
        )
    return folder, missing


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir()}


def _searches(root: Path) -> set[Path]:
    return {path for pattern in SEARCHES for path in root.glob(pattern)}


def _is_beginning(path: Path) -> bool:
    return any(path.match(pattern) for pattern in BEGINNINGS)


def _remove_empty(folder: Path, missing: list[Path]) -> None:
    """Remove what was made for the run, as far as it is empty, from the innermost out."""
    if folder not in missing:
        return
    inside = sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True)
    with suppress(OSError):  # the first that is not empty
        for path in (*inside, *missing):
            path.rmdir()
