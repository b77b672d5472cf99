"""The command line: questions are answered at once, and what is to be run is handed on to what needs torch."""

import sys
from argparse import ArgumentError
from collections.abc import Sequence

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
    from editable.running import run  # torch and Lightning, which take seconds, for what is not answered yet

    run(args)
