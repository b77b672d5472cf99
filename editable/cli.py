"""The command line: questions are answered at once, and what is to be run is handed on to what needs torch."""

import gc
import sys
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper

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
    _write_in_any_encoding()
    try:
        answer_at_once(args)
        with _nothing_collected():
            from editable.running import run  # torch and Lightning, which take seconds, for what is not answered yet
    except (UserError, ArgumentError) as error:
        sys.stderr.write(f"error: {one_sentence(str(error))}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted by SIGINT: there is nothing to go on from\n")
        raise SystemExit(130) from None
    run(args)


def _write_in_any_encoding() -> None:
    """Let what the output's encoding has not, such as an arrow in Latin-1, be written as a code: no run ends by it."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


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
