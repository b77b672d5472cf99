"""Signals that ask a process to end: at once, or while a training step is under way at its end."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from editable.errors import Interrupted
from editable.interruptions.neighbours import Neighbours

__all__ = ["StopSignals"]

SECONDS_OF_ONE = 2.0
"""Who sends a second signal later than this means it; ..."""
SECONDS_OF_ONE_TO_MANY = 30.0
"""... with several processes, to which signals are passed on, and by some late, later than this."""
SECONDS_TO_LEAVE = 0.05
"""Within which code is left that lets nothing through, before what was raised there is raised again."""


class StopSignals:
    """Handler of SIGTERM and SIGINT.

    Outside of a fit it raises :class:`~editable.errors.Interrupted` at once: edits are made out of place and files
    written whole, so nothing is left half-done. While :attr:`held`, the first signal is only noted; who holds it looks
    at :attr:`received`. A second one, some seconds later, ends a held process at once too. Where Python ignores what is
    raised, such as in a finalizer or in what :mod:`logging` does before and after a fork, it is raised again behind it.

    Attributes:
        received: Number of the signal that came; none came otherwise.
        held: Whether a signal waits to be looked at.
        pass_on: Is called with the number of the first signal: what brings it to other processes of the run.
        neighbours: Looks after other processes of the run, where this one has started them or they this one.
        ending: Whether the process ends for a reason of its own and ends the others, which pass the signal back.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.held = False
        self.pass_on: Callable[[int], None] | None = None
        self.neighbours: Neighbours | None = None
        self.ending = False
        self._first, self._process = 0.0, os.getpid()
        self._ignored = False

    @contextmanager
    def installed(self) -> Iterator["StopSignals"]:
        """Handle both signals within a block; where that is impossible, in a thread, they are left alone."""
        try:
            before = {number: signal.signal(number, self) for number in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:
            yield self
            return
        try:
            with self._raising_again():
                yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if self._comes_late(number) else handler)

    @contextmanager
    def _raising_again(self) -> Iterator[None]:
        """Send a signal again where what it has raised was ignored; else go on after it as if there had been none."""
        say = sys.unraisablehook

        def hook(ignored: "sys.UnraisableHookArgs") -> None:
            if not isinstance(ignored.exc_value, Interrupted):
                say(ignored)
                return
            self._ignored = True
            again = threading.Timer(SECONDS_TO_LEAVE, self._send_again, [ignored.exc_value.signum])
            again.daemon = True
            again.start()

        sys.unraisablehook = hook
        try:
            yield
        finally:
            sys.unraisablehook = say

    def _comes_late(self, signum: int) -> bool:
        """Whether another process of the run may still send a signal, when this one is ending and has its status."""
        ends = self.received is not None or self.ending
        return signum == signal.SIGTERM and self.pass_on is not None and ends

    @staticmethod
    def current() -> "StopSignals | None":
        """Return the process's handler of SIGTERM, where it is one of these."""
        handler = signal.getsignal(signal.SIGTERM)
        return handler if isinstance(handler, StopSignals) else None

    def adopt(self) -> None:
        """Act in this process: one that was forked from that which made the handler."""
        self._process = os.getpid()

    def raise_received(self) -> None:
        """Raise what was noted."""
        if self.received is not None:
            raise Interrupted(self.received)

    def _send_again(self, signum: int) -> None:
        """Bring the main thread a signal once more, unless nobody waits for it any longer."""
        if self._ignored and signal.getsignal(signum) is self:
            signal.pthread_kill(threading.main_thread().ident or 0, signum)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if os.getpid() != self._process:  # a forked worker that loads images
            if signum == signal.SIGINT:
                return  # of a terminal; the process that it works for still wants an image, and will end it
            raise SystemExit(128 + signum)
        if self.ending and signum == signal.SIGTERM:
            return
        first, again, self._ignored = self.received is None, self._ignored, False
        seconds = SECONDS_OF_ONE if self.pass_on is None else SECONDS_OF_ONE_TO_MANY
        if first:
            self.received, self._first = signum, time.monotonic()
            if self.pass_on is not None:
                self.pass_on(signum)
        elif not again and time.monotonic() - self._first < seconds:
            return
        if not (self.held and first):
            raise Interrupted(signum)
