"""The command line: what the first word asks for, and a user's mistake as one sentence."""

import logging
import sys
import warnings
from collections.abc import Sequence

from editable.comparison import compare
from editable.default_run import default_run
from editable.lightning_cli import EditableCLI
from editable.mistakes import users_mistake

__all__ = ["EditableCLI", "main"]


def _leave_out_noise() -> None:
    """Keep from the terminal what a user can do nothing about: advertisements, and warnings inside Lightning."""
    warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated")
    warnings.filterwarnings("ignore", ".*does not have many workers")  # small data sets lie in memory
    warnings.filterwarnings("ignore", "The dirpath has changed from")  # no run writes where another one did
    warnings.filterwarnings("ignore", ".*batching rule for aten::as_strided_")  # pooling under vmap, of a few values
    warnings.filterwarnings("ignore", "LightningCLI's args parameter is intended")  # they are the command line's
    warnings.formatwarning = _warning_as_a_sentence
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addFilter(lambda record: "Tip: For seamless cloud" not in record.getMessage())


def _warning_as_a_sentence(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return a warning without the place in the code, which says nothing to a user."""
    return f"warning: {message}\n"


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exits with status 2 and one sentence on a user's mistake.

    Args:
        args: Command line arguments; by default those of the process.
    """
    _leave_out_noise()
    args = sys.argv[1:] if args is None else args
    try:
        if args and args[0] == "compare":  # of runs that are over: needs neither model nor data
            compare(args[1:])
        elif args:
            EditableCLI(args)
        else:
            default_run()
    except Exception as error:
        mistake = users_mistake(error)
        if mistake is None:
            raise
        sys.stderr.write(f"error: {mistake}\n")
        raise SystemExit(2) from None
