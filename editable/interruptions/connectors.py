"""Two of Lightning's inner parts that handle signals and a scheduler's checkpoint, replaced."""

import os
import signal
from collections.abc import Callable
from typing import Any

from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

from editable.interruptions.neighbours import Neighbours
from editable.interruptions.scheduler import last_of_job, scheduler_of
from editable.interruptions.signals import StopSignals

__all__ = ["CheckpointConnector", "SignalConnector"]


class SignalConnector(_SignalConnector):
    """Leaves signals to the command line's :class:`StopSignals`, where they are installed.

    Lightning's handler sends messages between processes from within, wherever they are, and a scheduler's saves in the
    midst of a step.
    """

    def register_signal_handlers(self) -> None:
        """Let the scheduler's signal be handled too, and signals be passed on to processes that were started here."""
        signals = StopSignals.current()
        if signals is None:
            super().register_signal_handlers()
            return
        signals.adopt()
        signals.pass_on = self._to_others()
        self._watch(signals)
        scheduler = scheduler_of(self.trainer)
        if scheduler is not None and scheduler.requeue_signal is not None:
            number = scheduler.requeue_signal
            self._original_handlers = {number: signal.getsignal(number)}
            self._register_signal(number, signals)

    def teardown(self) -> None:
        """Look after other processes no more, and leave signals as they were."""
        signals = StopSignals.current()
        if signals is not None and signals.neighbours is not None:
            signals.neighbours.leave()
        super().teardown()

    def _to_others(self) -> Callable[[int], None] | None:
        """Return what brings a signal to processes that this one has started, or to the one that has started it."""
        environment = self.trainer._accelerator_connector.cluster_environment
        if isinstance(environment, LightningEnvironment) and environment.local_rank() > 0:
            parent = os.getppid()
            return lambda signum: os.kill(parent, signum) if os.getppid() == parent else None
        launcher: Any = self.trainer.strategy.launcher
        return None if launcher is None else launcher.kill

    def _watch(self, signals: StopSignals) -> None:
        """Look after the processes that this one has started, or the one that has started it."""
        environment = self.trainer._accelerator_connector.cluster_environment
        launcher = self.trainer.strategy.launcher
        if isinstance(environment, LightningEnvironment) and isinstance(launcher, _SubprocessScriptLauncher):
            parent = os.getppid() if environment.local_rank() > 0 else None
            if launcher.procs or parent is not None:
                signals.neighbours = Neighbours(launcher.procs, parent)
                signals.neighbours.watch()


class CheckpointConnector(_CheckpointConnector):
    """Looks for a scheduler's checkpoint in the job's own run folders, in place of the working directory."""

    @property
    def _hpc_resume_path(self) -> str | None:
        path = last_of_job(self.trainer)
        return None if path is None else str(path)
