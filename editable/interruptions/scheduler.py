"""A cluster's scheduler (SLURM) that ends a run and starts it again: what it goes on from, from saving to removal.

Of a fit that is a checkpoint, of any other command its folder, which an empty file marks as the job's. Both are named
by the command's arguments, too: a job may make several runs, one after the other, such as of several seeds.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from editable.callbacks.run.context import run_folder_here

__all__ = [
    "checkpoint_name",
    "last_of_job",
    "mark_unfinished",
    "remove_last_of_job",
    "requeue",
    "scheduler_of",
    "unfinished_of_job",
]


def scheduler_of(trainer: Trainer) -> SLURMEnvironment | None:
    """Return the scheduler of a run, where it is one that starts jobs again."""
    environment: Any = trainer._accelerator_connector.cluster_environment
    return environment if isinstance(environment, SLURMEnvironment) and environment.auto_requeue else None


def checkpoint_name(trainer: Trainer) -> str:
    """Return the name, without its ending, of the checkpoint that an interrupted fit leaves: ``last``, or the job's."""
    return "last" if scheduler_of(trainer) is None else _mark()


def requeue(trainer: Trainer, signum: int) -> None:
    """Ask the scheduler to start the job again, where the signal is the one by which it says that time is up."""
    scheduler = scheduler_of(trainer)
    if scheduler is None or signum != scheduler.requeue_signal or not trainer.is_global_zero:
        return
    try:
        subprocess.run(["scontrol", "requeue", _job()], check=True)
    except (OSError, subprocess.CalledProcessError) as failed:
        rank_zero_warn(f"The job could not be started again: `scontrol requeue {_job()}` failed ({failed}).")


def last_of_job(trainer: Trainer) -> Path | None:
    """Return the checkpoint that the scheduler's last start of this very job has left; only a fit takes it up.

    One that another command of the job has left is told of.
    """
    if scheduler_of(trainer) is None or trainer.state.fn != TrainerFn.FITTING:
        return None
    own = max(_of_job(trainer), key=lambda path: path.stat().st_mtime, default=None)
    others = _neighbours(trainer, f"checkpoints/scheduler-{_job()}-*.ckpt")
    if own is None and others:
        rank_zero_warn(
            f"Job {_job()} has left '{others[0]}' by a command with other arguments: this one begins anew. Give that "
            "as --ckpt_path to go on from it."
        )
    return own


def mark_unfinished(trainer: Trainer) -> None:
    """Mark the folder of an interrupted command as what the job's next start goes on from; for one process alone."""
    if scheduler_of(trainer) is not None and trainer.is_global_zero:
        (run_folder_here(trainer) / _mark()).touch()


def unfinished_of_job(trainer: Trainer) -> Path | None:
    """Return the folder that the job's last start has marked, of a command other than a fit."""
    if scheduler_of(trainer) is None or trainer.state.fn == TrainerFn.FITTING:
        return None
    marks = _neighbours(trainer, _mark())
    return max(marks, key=lambda path: path.stat().st_mtime).parent if marks else None


def remove_last_of_job(trainer: Trainer) -> None:
    """Remove what earlier starts of the job have left, when it is done; to be called on every rank."""
    if scheduler_of(trainer) is not None:
        found = [*_of_job(trainer), *_neighbours(trainer, _mark())]
        if trainer.is_global_zero:
            for path in found:
                path.unlink(missing_ok=True)


def _of_job(trainer: Trainer) -> list[Path]:
    return _neighbours(trainer, f"checkpoints/{_mark()}.ckpt")


def _neighbours(trainer: Trainer, name: str) -> list[Path]:
    """Find a job's files in the folders of its runs: this one's, and its neighbours of other versions."""
    folder = Path(trainer.log_dir or trainer.default_root_dir)
    return [path for path in (*folder.glob(name), *folder.parent.glob(f"*/{name}")) if path.is_file()]


def _mark() -> str:
    arguments = hashlib.sha256("\0".join(sys.argv[1:]).encode()).hexdigest()
    return f"scheduler-{_job()}-{arguments[:8]}"


def _job() -> str:
    """Return the job's number; a task of an array has the array's and its own."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
