"""Our parsers: options by their whole names, a near name for a misspelt one, and help that begins with one's own."""

from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from editable.command_line.first_word import program
from editable.command_line.help import HelpFormatter, help_of_a_class, own_options_first
from editable.command_line.suggestions import with_suggestion
from editable.command_line.table import COMMANDS

__all__ = ["CommandParser", "EditableParser"]


class EditableParser(ArgumentParser):
    """jsonargparse's parser, with near names in its errors, and help in our order.

    It raises an :class:`argparse.ArgumentError` where another would exit. No option can be abbreviated: who leaves out
    a letter has misspelt it, and an option to come could make it ambiguous.

    Args:
        settings: Those of :class:`jsonargparse.ArgumentParser`.
    """

    def __init__(self, **settings: Any) -> None:
        usual = {"prog": program(), "allow_abbrev": False, "exit_on_error": False, "formatter_class": HelpFormatter}
        super().__init__(**{**usual, **settings})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the error, with the name that was meant if one is near."""
        super().error(with_suggestion(self, message), ex)

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """Return the help text."""
        with own_options_first(self):
            return super().format_help(*args, **kwargs) + help_of_a_class(self)


class CommandParser(EditableParser):
    """The parser of a command that is no run of the trainer.

    Args:
        command: Its name in the table of commands, which has its summary.
        more: What is to be said besides.
    """

    def __init__(self, command: str, more: str = "") -> None:
        text = " ".join(filter(None, (COMMANDS[command].summary, more)))
        super().__init__(prog=f"{program()} {command}", description=text)
