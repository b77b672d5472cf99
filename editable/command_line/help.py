"""Help that helps: a short usage, a command's own options before Lightning's, and no lists of what anybody may name."""

import re
import sys
from argparse import SUPPRESS, Action
from collections.abc import Iterator
from contextlib import contextmanager

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from editable.command_line.known_names import MAKERS_OF_NETWORKS, known_makers, known_names

__all__ = ["HelpFormatter", "help_of_a_class", "own_options_first"]

KNOWN = ", known subclasses: "
MOST_NAMES = 30
"""Of a longer list of classes nothing can be learnt."""
EVERY_RUN_HAS = {
    "model": "the task, by class: what is trained or looked at",
    "data": "the data, by class",
    "evaluation": "how edits are evaluated, by default by the published protocol",
    "trainer": "Lightning's trainer",
}
"""Titles of the groups that come, in this order, after a command's own."""
LIGHTNINGS = ("fit", "validate", "test", "predict")
"""Groups of methods of Lightning's trainer, whose few options come after the files."""
ARGPARSES = ("options", "positional arguments")
LINKS = "Linked arguments"
"""Title of a group that speaks of jsonargparse's inner workings alone."""


class HelpFormatter(DefaultHelpFormatter):
    """Says of an option what jsonargparse's does, but lists classes only where there are few."""

    def _get_help_string(self, action: Action) -> str:
        text, known, names = super()._get_help_string(action).partition(KNOWN)
        listed = names.removesuffix(")").split(", ")
        if "torch.nn.Module" in listed:
            listed = known_makers(MAKERS_OF_NETWORKS)
            known = ", such as: "
        elif len(listed) > MOST_NAMES:
            listed = [name for name in listed if name.startswith("editable.")]
        return f"{text}{known}{', '.join(listed)})" if known and listed else text + (")" if known else "")


def help_of_a_class(parser: ArgumentParser) -> str:
    """Return what is to be said below the help of a class that has no options: of a base class, which are there."""
    asked = re.fullmatch(r"Help for --\S+=(\S+)", parser.description or "")
    if asked is None or any(action.option_strings for action in parser._actions):
        return ""
    module, _, name = asked.group(1).rpartition(".")
    names = [path for path in known_names(getattr(sys.modules[module], name)) if path != asked.group(1)]
    return "\n".join(["", "It has no options. Name one of:", *(f"  {path}" for path in names), ""]) if names else ""


@contextmanager
def own_options_first(parser: ArgumentParser) -> Iterator[None]:
    """Put, while this lasts, the groups of options in the order in which somebody reads them.

    What a command has for itself comes first, then files and checkpoints, then what every run has, Lightning's trainer
    last of all. The help of a class (``--model.help …``) has one group, which keeps the class's first line.
    """
    if getattr(parser, "_inner_parser", False):
        parser.usage = SUPPRESS
        yield
        return
    theirs, keys = parser._action_groups, {id(group): key for key, group in (parser.groups or {}).items()}
    titles = [group.title for group in theirs]
    order = [None, *LIGHTNINGS, *EVERY_RUN_HAS]

    def place(group: object) -> int:
        key = keys.get(id(group))
        return order.index(key) if key in order else -1

    for group in theirs:
        key = keys.get(id(group))
        if key is not None:
            group.title = EVERY_RUN_HAS.get(key, f"options of {key}")
        elif group.title not in ARGPARSES:
            group.title = "further options"
    shown = [group for group, title in zip(theirs, titles, strict=True) if title != LINKS]
    parser._action_groups = sorted(shown, key=place)
    try:
        yield
    finally:
        parser._action_groups = theirs
        for group, title in zip(theirs, titles, strict=True):
            group.title = title
