"""Docstrings as the site shows them: cross references and formulas of Sphinx become those of Markdown."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import griffe

PROJECT = Path(__file__).parents[2]
ROOMS = {page.stem for page in (PROJECT / "docs/reference").glob("*.md")} - {"index", "editable"}

_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`(~?)([\w.]+)`")
_FORMULA = re.compile(r"^( *)\.\. math:: *(.*(?:\n\1 +\S.*)*)", re.MULTILINE)
_STAR = re.compile(r"(?<=\w)\*(?=[\s,;:.)\]‖|ᵀ])")  # k* and V*, which are no emphasis
_INLINE = re.compile(r":math:`([^`]+)`")


def markdown_of(text: str) -> str:
    """A docstring's text in Markdown.

    Names that the reference has an entry for become links; others are shown as code.
    """

    def reference(match: re.Match[str]) -> str:
        short, path = match[1], match[2]
        shown = path.rpartition(".")[2] if short else path
        return f"[`{shown}`][{path}]" if _is_public(path) else f"`{shown}`"

    text = text.replace("\nExample:\n", "\nExamples:\n")  # by this name griffe takes them for lines of a console
    text = _ROLE.sub(reference, text)
    text = _FORMULA.sub(lambda match: f"\n{match[1]}$$ {' '.join(match[2].split())} $$\n", text)
    text = _INLINE.sub(r"$\1$", text)
    parts = re.split(r"(`+[^`]*`+|\$[^$]*\$|^ *(?:>>>|\.\.\.) .*$)", text, flags=re.MULTILINE)
    return "".join(part if i % 2 else _STAR.sub(r"\*", part) for i, part in enumerate(parts))


def _is_public(path: str) -> bool:
    """Whether the reference has an entry for a path: a room, or a name that is imported from one."""
    room, _, name = path.removeprefix("editable.").partition(".")
    return room in ROOMS and (not name or name in _names(room))


@cache
def _names(room: str) -> frozenset[str]:
    """What a room's door lists, read without importing it."""
    for statement in ast.parse((PROJECT / "editable" / room / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            return frozenset(ast.literal_eval(statement.value))
    return frozenset()


class Roles(griffe.Extension):
    """Changes every docstring as it is read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = markdown_of(obj.docstring.value)
