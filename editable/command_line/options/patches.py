"""The options of ``patches``."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from os.path import expanduser
from typing import Any, NoReturn

from editable.command_line.first_word import program
from editable.errors import UserError

__all__ = ["options"]

DESCRIPTION = """What edits, rewrites and streams have left: look at it, merge it, and drop any one edit.

  python train.py patches list runs/*/edit.safetensors
  python train.py patches verify first.safetensors second.safetensors --weights network.safetensors
  python train.py patches merge all.safetensors first.safetensors second.safetensors --weights network.safetensors
  python train.py patches drop 2 all.safetensors --weights network.safetensors --out without_2

Files are given in the order in which they were made. The network's own file never changes: what is left out of
`--patches` of another command is not there. docs/patch-format.md says what is in a file."""

WEIGHTS = "weights that the first patch was made for: a .safetensors file or a checkpoint; needs no configuration"
FILES = "files of patches, in the order of their making"


class Parser(ArgumentParser):
    """Raises what it does not understand as a mistake of the user."""

    def error(self, message: str) -> NoReturn:
        """Raise it, with the command that helps."""
        words = self.prog.removeprefix(program()).strip()
        raise UserError(f"{words}: {message}; `{self.prog} --help` says what is")


def options() -> Parser:
    """Return the parser of the arguments after ``patches``; ``what`` is the name of one of its commands."""
    parser = Parser(prog=f"{program()} patches", description=DESCRIPTION, formatter_class=RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", metavar="{show,list,verify,merge,drop}", required=True)
    show = _add(what, "show", "all that a patch tells of itself, and how each tensor is held")
    show.add_argument("files", type=expanduser, nargs="+", metavar="FILE", help=FILES)
    listed = _add(what, "list", "a line for each edit, with the number by which it is dropped")
    listed.add_argument("files", type=expanduser, nargs="+", metavar="FILE", help=FILES)
    verify = _add(what, "verify", "whether patches are whole and are made one on the other, with --weights every value")
    verify.add_argument("files", type=expanduser, nargs="+", metavar="FILE", help=FILES)
    verify.add_argument("--weights", type=expanduser, metavar="FILE", help=WEIGHTS)
    merge = _add(what, "merge", "one patch that does what several do one after the other, and keeps all their edits")
    merge.add_argument("out", type=expanduser, metavar="OUT", help="the file that is written; it must not be there")
    merge.add_argument("files", type=expanduser, nargs="+", metavar="FILE", help=FILES)
    merge.add_argument("--weights", type=expanduser, required=True, metavar="FILE", help=WEIGHTS)
    drop = _add(
        what,
        "drop",
        "the patches without one edit, the first, the last or one between: rows of a codebook are deleted, and what "
        "has changed the same tensors later is made again by its own run, which is said",
    )
    drop.add_argument("number", type=int, metavar="NUMBER", help="of the edit, as `patches list` tells it")
    drop.add_argument("files", type=expanduser, nargs="+", metavar="FILE", help=FILES)
    drop.add_argument("--weights", type=expanduser, required=True, metavar="FILE", help=WEIGHTS)
    drop.add_argument(
        "--out", type=expanduser, required=True, metavar="FOLDER", help="where what is left goes, as 1.safetensors, 2.…"
    )
    return parser


def _add(what: Any, name: str, meaning: str) -> ArgumentParser:
    return what.add_parser(name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.")
