"""The options of ``board``."""

from os.path import expanduser

from jsonargparse import ArgumentParser

from editable.command_line.parser import CommandParser

__all__ = ["options"]

MORE = """What is there is not made again, unless its options have changed; what was interrupted is gone on with by the
same command; what fails is told at the end, and tried again by the next one. An editor of yours is an entry in the
file."""


def options() -> ArgumentParser:
    """Return the parser of what follows ``board``."""
    parser = CommandParser("board", MORE)
    for name, default, what in (
        ("board", "results/board.yaml", "the file that says what is on the board"),
        ("results", "results", "folder of <network>/<protocol>/<editor>.json"),
        ("page", "docs/board.md", "the page; its figure goes into figures/ beside it"),
        ("runs", "runs/board", "folder for runs, until the result of a cell is there"),
    ):
        parser.add_argument(f"--{name}", type=expanduser, default=default, help=what)
    parser.add_argument("--only", nargs="+", default=[], help="names of networks, protocols or editors")
    parser.add_argument("--train", action="store_true", help="train the networks whose weights are not there")
    parser.add_argument("--dry_run", "--dry-run", action="store_true", help="tell what would be made, and make nothing")
    parser.add_argument("--page_only", "--page-only", action="store_true", help="make the page of what is there")
    return parser
