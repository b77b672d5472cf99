"""The options of ``compare``."""

from jsonargparse import ArgumentParser

from editable.command_line.parser import CommandParser

__all__ = ["options"]


def options() -> ArgumentParser:
    """Return the parser of what follows ``compare``."""
    parser = CommandParser("compare")
    parser.add_argument("runs", nargs="+", metavar="name=folder", help="a name, and the log folder of a test run")
    parser.add_argument("--output", default="comparison.png", help="the figure; the table goes beside it as .md")
    parser.add_argument("--replace", action="store_true", help="replace a figure and table that are there already")
    return parser
