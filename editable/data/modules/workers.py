"""Processes that load images: which signals they listen to, and what ends them with the process that they work for."""

import atexit
import multiprocessing
import os
import signal

from lightning.fabric.utilities.seed import pl_worker_init_function

__all__ = ["begin_worker", "end_workers_at_exit"]

TO_ALL = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")
"""What a terminal or a scheduler sends to every process of a run; the last two say that a job's time is nearly up."""


def begin_worker(worker: int) -> None:
    """Let a worker outlive a signal to all processes: the one that it works for wants its images until it has stopped.

    It ends when that asks it to, or is no more.

    Args:
        worker: Its number.
    """
    for name in TO_ALL:
        if hasattr(signal, name):  # not all of them everywhere
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if os.environ.get("PL_SEED_WORKERS") == "1":  # Lightning does so where there is no such function
        pl_worker_init_function(worker)


def end_workers_at_exit() -> None:
    """Let this process end its workers when it ends, wherever their loader is still in use.

    Python would ask them by SIGTERM, which they don't listen to, and wait for them without end.
    """
    atexit.unregister(_end_workers)
    atexit.register(_end_workers)


def _end_workers() -> None:
    for child in multiprocessing.active_children():
        if child.daemon:  # as torch's workers are; Python ends no others
            child.kill()
