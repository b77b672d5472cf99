"""What was meant by a misspelt option, key or value: the near name, at the end of the parser's sentence.

jsonargparse raises its errors with the message alone, so that is what is read here; a message of another form stays as
it is.
"""

import re
import sys
from pathlib import Path
from typing import Any, get_args

from jsonargparse import ArgumentParser, _subcommands

from editable.command_line.known_names import known_names
from editable.command_line.near import did_you_mean, near_name

__all__ = ["with_suggestion"]

SAID = "did you mean"
NO_OPTIONS = "no option's"
NOBODY = ": name a class that has it first"
"""Of a base class, which stands there as long as no class is named."""
UNRECOGNISED = re.compile(r"unrecognized arguments: (.*)", re.DOTALL)
CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")
KEY = re.compile(
    r"(?:Group '(?P<group>[^']*)' does not accept option|Subcommand '(?P<command>[^']*)' does not accept option|Option)"
    r" '(?P<key>[^']*)'"
)
VALUE = re.compile(r'Parser key "([^"]*)"|--(\S+)\.help:')
CLASS = re.compile(
    r"Expected a dot import path string: (\S+)|Problem with given class_path '([^']*)':\s+"
    r"(?:module '\S*' has no attribute|No module named|type object '\S*' has no attribute)|"
    r"(?:module '\S*' has no attribute|No module named) '[^']*'\. Got value: (\S+)"
)
WORD = re.compile(r"Literal\[.*(?:Got|Given) value: (\S+)", re.DOTALL)
MOST_NAMES = 20


def with_suggestion(parser: ArgumentParser, message: str) -> str:
    """Return an error's message with the near name of what was misspelt, if there is one.

    Args:
        parser: Whose error it is; it knows the options.
        message: Of the error.
    """
    if any(said in message for said in (SAID, NO_OPTIONS, NOBODY)):  # by the parser of a class or a command inside
        return message
    for say in (_of_an_option, _of_a_choice, _of_a_key, _of_a_class, _of_a_word):
        said = say(parser, message)
        if said is not None:
            return said
    return message


def _of_an_option(parser: ArgumentParser, message: str) -> str | None:
    found = UNRECOGNISED.search(message)
    if found is None or _places(message):
        return None
    given = found.group(1).split(" ")
    option = next((some.partition("=")[0] for some in given if some.startswith("-")), None)
    if option is None:
        return f"'{given[0]}' is {NO_OPTIONS} value: a list is one argument, as [first,second]"
    known = _options(parser)
    return f"there is no option '{option}'{did_you_mean(option, known, '' if known else NOBODY)}"


def _of_a_choice(parser: ArgumentParser, message: str) -> str | None:
    found = CHOICE.search(message)
    return None if found is None else message + did_you_mean(found.group(1), re.findall(r"[\w-]+", found.group(2)))


def _of_a_key(parser: ArgumentParser, message: str) -> str | None:
    found = KEY.search(message)
    if found is None or _places(message):
        return None
    prefix = f"{found.group('group')}." if found.group("group") else ""
    command = found.group("command")
    if command is not None and parser._subcommands_action is not None:
        parser = parser._subcommands_action._name_parser_map[command]
    known = [option.removeprefix("--") for option in _options(parser)]
    known = [option for option in known if option.startswith(prefix)]
    parts = f"{prefix}{found.group('key')}".split(".")
    keys_of_a_class = ["class_path", "init_args"] if getattr(parser, "_inner_parser", False) else []
    for end in range(len(parts), prefix.count("."), -1):  # a section's key, or the section itself
        near = near_name(".".join(parts[:end]), known + keys_of_a_class)
        if near is not None:
            return f"{message}: {SAID} '{near.removeprefix(prefix)}'?"
    if not known:
        return message + NOBODY
    return f"{message}: known are {', '.join(known)}" if len(known) <= MOST_NAMES else message


def _of_a_class(parser: ArgumentParser, message: str) -> str | None:
    keys, found = _places(message), CLASS.search(message)
    if len(keys) != 1 or found is None:
        return None
    given = next(filter(None, found.groups()))
    package = given.partition(".")[0]
    if f"No module named '{package}'" in message and (Path(f"{package}.py").is_file() or Path(package).is_dir()):
        return (
            f"Parser key \"{keys[0]}\": there is no module '{package}' where Python looks for them: for those of the "
            "working folder, set PYTHONPATH=. before the command"
        )
    paths = known_names(_type_of(parser, keys[0]))
    module, _, name = given.rpartition(".")
    own = [some for some in dir(sys.modules[module]) if not some.startswith("_")] if module in sys.modules else []
    bare = {some: f"{module}.{some}" for some in own} | {path.rpartition(".")[2]: path for path in paths}
    near = near_name(name, bare)
    if near is not None:
        return f"Parser key \"{keys[0]}\": there is no '{given}': {SAID} '{bare[near]}'?"
    few = "." not in given and 0 < len(paths) <= MOST_NAMES
    return f"Parser key \"{keys[0]}\": there is no '{given}': known are {', '.join(paths)}" if few else None


def _of_a_word(parser: ArgumentParser, message: str) -> str | None:
    keys, found = _places(message), WORD.search(message)
    if len(keys) != 1 or found is None:
        return None
    given = found.group(1)
    words = [some for some in _words(_type_of(parser, keys[0])) if isinstance(some, str)]
    near = near_name(given, words)
    if near is None and not 0 < len(words) <= MOST_NAMES:
        return None
    meant = f"known are {', '.join(words)}" if near is None else f"{SAID} '{near}'?"
    return f"Parser key \"{keys[0]}\": there is no '{given}': {meant}"


def _places(message: str) -> list[str]:
    """Return the options that a value was given to, from the outermost: several if it stands in a class inside one.

    Whose parser is not the innermost knows nothing of what is said.
    """
    return [option or explained for option, explained in VALUE.findall(message)]


def _words(typehint: Any) -> list[Any]:
    parts = get_args(typehint)
    return [word for part in parts for word in (_words(part) or [part])]


def _options(parser: ArgumentParser) -> list[str]:
    """Return the long options of a parser, without those that only explain others."""
    options = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    return [option for option in options if not option.endswith(("help", "+"))]


def _type_of(parser: ArgumentParser, key: str) -> Any:
    return getattr(_subcommands.find_action(parser, key), "_typehint", None)
