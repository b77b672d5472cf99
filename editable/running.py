"""What a command runs in: signals are handled, warnings are short, and a user's mistake ends as one sentence."""

import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence

import torch.distributed
from lightning.pytorch.utilities import rank_zero_only

from editable.allocator import keep_freed_memory
from editable.atomic import is_disk_full
from editable.calls.said_once import each_sentence_once
from editable.command_line.first_word import named
from editable.command_line.table import COMMANDS
from editable.default_run import default_run
from editable.errors import Interrupted
from editable.interruptions import Neighbours, StopSignals
from editable.lightning_cli import EditableCLI
from editable.mistakes import one_sentence, users_mistake

__all__ = ["run"]


def _leave_out_noise() -> None:
    """Keep from the terminal what a user can do nothing about: advertisements, and warnings inside Lightning."""
    warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated")
    warnings.filterwarnings("ignore", ".*does not have many workers")  # small data sets lie in memory
    warnings.filterwarnings("ignore", "The dirpath has changed from")  # no run writes where another one did
    warnings.filterwarnings("ignore", ".*batching rule for aten::as_strided_")  # pooling under vmap, of a few values
    warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero")  # no image is kept for validation
    # the task's only looks at labels, and gives way to a data module's own
    warnings.filterwarnings("ignore", "You have overridden `on_before_batch_transfer` in `LightningModule` but")
    warnings.filterwarnings("ignore", "LightningCLI's args parameter is intended")  # they are the command line's
    warnings.formatwarning = _warning_as_a_sentence
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addFilter(lambda record: "Tip: For seamless cloud" not in record.getMessage())


def _warning_as_a_sentence(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return a warning without the place in the code, which says nothing to a user."""
    return f"warning: {message}\n"


def run(args: Sequence[str]) -> None:
    """Run a command, or without arguments the default run.

    Args:
        args: The arguments of the command line.

    Raises:
        SystemExit: With status 2 on a user's mistake, and with 143 or 130 on SIGTERM or SIGINT, after one sentence.
    """
    _leave_out_noise()
    keep_freed_memory()
    signals = StopSignals()
    try:
        with signals.installed(), each_sentence_once():
            _run(args)
    except Interrupted as interrupted:
        raise SystemExit(_say_interrupted(interrupted, signals.neighbours)) from None
    except Exception as error:
        lost = signals.neighbours.look() if signals.neighbours is not None and _lost_a_process(error) else None
        if signals.received is not None or lost:  # what a signal to other processes does to those that need them
            by_signal = Interrupted(signals.received or signal.SIGTERM)
            raise SystemExit(_say_interrupted(by_signal, signals.neighbours)) from None
        sentence = _sentence_of(error)
        if sentence is None:
            raise
        sys.stderr.write(f"error: {sentence}\n")
        raise SystemExit(2) from None


def _run(args: Sequence[str]) -> None:
    own = COMMANDS[args[0]].run if args and args[0] in COMMANDS else None
    if not args:
        default_run()
    elif own is not None:
        named(own)(args[1:])
    else:
        EditableCLI(args)


def _say_interrupted(interrupted: Interrupted, neighbours: Neighbours | None) -> int:
    """Say where to go on, once for all processes; return the exit status."""
    if neighbours is not None and neighbours.lost:
        advice = f": go on with {interrupted.advice}" if interrupted.advice else ""
        sys.stderr.write(f"error: {neighbours.lost}{advice}\n")
        return neighbours.STATUS
    if getattr(rank_zero_only, "rank", 0):
        # Lightning kills all processes, the first too, when one that it has started ends with another status than 0.
        return interrupted.status if "TORCHELASTIC_RUN_ID" in os.environ else 0
    where = f"go on with {interrupted.advice}" if interrupted.advice else "there is nothing to go on from"
    sys.stderr.write(f"interrupted by {signal.Signals(interrupted.signum).name}: {where}\n")
    return interrupted.status


def _sentence_of(error: Exception) -> str | None:
    """Return what to say in place of a traceback; none where the error is the program's."""
    mistake = users_mistake(error)
    if mistake is not None:
        return mistake
    if is_disk_full(error):
        return f"no space is left for what the run writes ({one_sentence(str(error))}): free some"
    if torch.distributed.is_available() and torch.distributed.is_initialized() and _lost_a_process(error):
        return "another process of this run has ended, and has said why; this one cannot go on without it"
    return None


def _lost_a_process(error: Exception) -> bool:
    """Return whether a message to another process has failed because that is no more."""
    signs = ("closed by peer", "connection reset", "broken pipe", "gloo", "nccl", "socket")
    return isinstance(error, RuntimeError | OSError) and any(sign in str(error).lower() for sign in signs)
