"""Processes of a run that are killed: the one that has started them, or that they have started, notices and ends."""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from subprocess import Popen

__all__ = ["Neighbours"]

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_END = 10.0
"""How long a process has to end by itself; also, one that goes on when the first one is gone may just be the last."""


class Neighbours:
    """Looks whether processes that belong to this one's run are still there, in a thread of its own.

    It takes the place of Lightning's observer of child processes, which kills all without a word. Where a process has
    ended by a signal, this one sends itself SIGTERM, by which it keeps what it has done; where it cannot, as it waits
    for a message that never comes, it is ended from here.

    Args:
        started: The processes that this one has started, in the order of their ranks, from 1 on; ...
        parent: ... or the id of the one that has started it.

    Attributes:
        STATUS: The exit status of a process that ends as another was killed.
        lost: A sentence that says which process is gone; none where all are there, as far as is known.
    """

    STATUS = 128 + 9  # as shells say of who is killed

    def __init__(self, started: Sequence[Popen], parent: int | None) -> None:
        self._started, self._parent = started, parent
        self._done = threading.Event()
        self.lost: str | None = None

    def watch(self) -> None:
        """Begin to look."""
        for thread in threading.enumerate():
            if thread.name == "child-process-observer":
                thread._child_processes = []  # type: ignore[attr-defined]  # with none left it ends
        threading.Thread(target=self._run, name="neighbours", daemon=True).start()

    def leave(self) -> None:
        """Look no more: the run is done."""
        self._done.set()

    def look(self) -> str | None:
        """Look now, for up to a second: who is killed closes its sockets before it is gone."""
        for _ in range(10):
            if self.lost is None:
                self.lost = self._find()
            if self.lost is not None:
                break
            time.sleep(0.1)
        return self.lost

    def _run(self) -> None:
        while not self._done.wait(SECONDS_BETWEEN_LOOKS):
            refused = max(((process.poll() or 0) for process in self._started), default=0)  # and has said why
            lost = self._find()
            if lost is None and refused <= 0:
                continue
            if (lost is None or self._parent is not None) and self._done.wait(SECONDS_TO_END):
                return
            if lost:
                self.lost = lost
                os.kill(os.getpid(), signal.SIGTERM)
                if self._done.wait(SECONDS_TO_END):
                    return
                sys.stderr.write(f"error: {lost}\n")
                sys.stderr.flush()
            for process in self._started:
                process.kill()
            os._exit(self.STATUS if lost else refused)

    def _find(self) -> str | None:
        for rank, process in enumerate(self._started, 1):
            if (process.poll() or 0) < 0:
                return (
                    f"process {rank} of this run was killed by {signal.Signals(-process.returncode).name}, as the "
                    "system does where memory is short, and the others cannot go on without it"
                )
        if self._parent is not None and os.getppid() != self._parent:
            return "the first process of this run has ended, and the others cannot go on without it"
        return None
