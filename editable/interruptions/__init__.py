"""What a run does about interruptions: files that stay whole, a place to go on from, signals, a scheduler's requeue.

:class:`~editable.trainer.EditableTrainer` brings all of it. Start with ``stop_at_step.py``, what a signal does to a
fit, and ``exact_resume.py``, what is in a checkpoint besides Lightning's own; ``checkpoint_files.py`` writes it. What
long evaluations keep of themselves lies with each of them.
"""

from editable.interruptions.checkpoint_files import WholeCheckpoints
from editable.interruptions.connectors import CheckpointConnector, SignalConnector
from editable.interruptions.diverged import EndsWhereItDiverges
from editable.interruptions.exact_resume import ExactResume
from editable.interruptions.kept_precision import KeptPrecision
from editable.interruptions.last_checkpoint import LastCheckpoint
from editable.interruptions.neighbours import Neighbours
from editable.interruptions.signals import StopSignals
from editable.interruptions.stop_at_step import StopAtStep

__all__ = [
    "CheckpointConnector",
    "EndsWhereItDiverges",
    "ExactResume",
    "KeptPrecision",
    "LastCheckpoint",
    "Neighbours",
    "SignalConnector",
    "StopAtStep",
    "StopSignals",
    "WholeCheckpoints",
]
