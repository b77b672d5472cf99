"""What is answered before anything heavy is imported: help, a misspelt command, and options of what is no run."""

import argparse
import shutil
import sys
import textwrap
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from editable.command_line.known_options import refuse_unknown
from editable.command_line.near import did_you_mean
from editable.command_line.table import COMMANDS
from editable.errors import UserError

__all__ = ["answer_at_once", "named", "program"]

BEFORE_A_COMMAND = ("-c", "--config", "--print_config")
"""What Lightning's command line takes before a command: a file with a section for each."""

DESCRIPTION = """Train, evaluate and rewrite editable neural networks.

Without a command: the default run, which trains a small ResNet on handwritten digits twice, without and with editable
training, and compares how well the two can be edited. With one: any task on any data, by configuration files and
options. Files that come with the package, such as configs/digits/editable.yaml, are found from anywhere."""
EPILOGUE = """`{program} <command> --help` explains a command's options; --print_config shows what would be run:

{program} fit --config configs/digits/editable.yaml --trainer.max_epochs 1 --print_config"""


def program() -> str:
    """Return what was typed to get here: ``editable``, ``python -m editable`` or ``python train.py``."""
    path = Path(sys.argv[0])
    if path.name == "__main__.py":
        return f"python -m {path.parent.name}"
    if path.suffix == ".py":
        return f"python {path.name}"
    return "editable" if path.name in ("", "-c") else path.name  # ``python -c``, as by the board


def answer_at_once(args: Sequence[str]) -> None:
    """Answer what can be answered without torch; return where a command is to be run.

    Args:
        args: The arguments of the command line.

    Raises:
        SystemExit: With status 0, if help was asked for; it is printed.
        UserError: If there is no such command, or one that runs the trainer has no such option, as far as that can be
            known.
        ArgumentError: If a command that is no run of the trainer has no such option.
    """
    if not args:
        return
    word, *rest = args
    if word in ("-h", "--help"):
        _help().print_help()
        raise SystemExit(0)
    if word in COMMANDS:
        options = COMMANDS[word].options
        if options is not None:
            named(options)().parse_args(rest)
        else:
            refuse_unknown(word, rest)
    elif word.startswith("-"):
        option = word.partition("=")[0]
        if option not in BEFORE_A_COMMAND:
            raise UserError(
                f"there is no option '{option}' before a command"
                + did_you_mean(
                    option, BEFORE_A_COMMAND, f": begin with a command, such as '{program()} fit {option} …'"
                )
            )
    else:
        known = f": commands are {', '.join(COMMANDS)}"
        raise UserError(f"there is no command '{word}'{did_you_mean(word, COMMANDS, known)}")


def named(place: str) -> Any:
    """Import what ``module:name`` stands for."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def _help() -> argparse.ArgumentParser:
    """Return what prints the help, for a terminal of any width, and for ``| head``."""
    name = program()
    parser = argparse.ArgumentParser(
        usage=f"{name} [command] [options]",
        description=_filled(DESCRIPTION),
        epilog=_filled(EPILOGUE.format(program=name)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="<command>")
    for word, command in COMMANDS.items():
        commands.add_parser(word, help=command.summary.replace("%", "%%"), add_help=False)
    return parser


def _filled(text: str) -> str:
    """Return paragraphs in lines as long as the terminal's."""
    width = shutil.get_terminal_size().columns - 2
    return "\n\n".join(textwrap.fill(paragraph, width, break_long_words=False) for paragraph in text.split("\n\n"))
