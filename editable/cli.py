"""The command line: questions are answered at once, and what is to be run is handed on to what needs torch."""

import gc
import sys
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from editable.command_line.first_word import answer_at_once
from editable.errors import UserError
from editable.mistakes import one_sentence

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exits with status 2 and one sentence on a user's mistake, and with 143 or 130 and one sentence that says where the
    work can be gone on with on SIGTERM or SIGINT.

    Args:
        args: Command line arguments; by default those of the process.
    """
    args = sys.argv[1:] if args is None else args
    try:
        answer_at_once(args)
    except (UserError, ArgumentError) as error:
        sys.stderr.write(f"error: {one_sentence(str(error))}\n")
        raise SystemExit(2) from None
    with _nothing_collected():
        from editable.running import run  # torch and Lightning, which take seconds, for what is not answered yet
    run(args)


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Keep the garbage collector from modules: looking through torch's costs 40 % of a start, and nothing is freed."""
    if "editable.running" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # it does not look through them later either
        gc.enable()
