"""The one table: built once, read on the terminal and in Markdown, or kept as CSV; and names in Markdown."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import category

import rich.table
from rich.text import Text

from editable.atomic import write_atomically

__all__ = ["Table", "markdown_code", "markdown_text", "visible_text"]

BREAKS = "\t\n\r\u2028\u2029"


@dataclass(frozen=True)
class Table:
    """Named columns and rows: text where people read it, exact values where programs do.

    Args:
        columns: Their names; the first column names what a row is about, further ones hold figures.
        rows: A cell for each column.
        title: Above it on the terminal.
        highlighted: Position of the row that stands out on the terminal, if any.

    Example:
        >>> print(Table(["editor", "drawdown"], [["GD", "+3.80 %"]]).markdown())
        | editor | drawdown |
        | --- | ---: |
        | GD | +3.80 % |
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str | None = None
    highlighted: int | None = None

    def terminal(self) -> rich.table.Table:
        """Return it to be printed by ``rich``."""
        table = rich.table.Table(title=None if self.title is None else Text(visible_text(self.title)))  # not markup
        for position, name in enumerate(self.columns):
            table.add_column(Text(visible_text(name)), justify="right" if position else "left", overflow="fold")
        for position, row in enumerate(self.rows):
            cells = [Text(visible_text(str(cell))) for cell in row]
            table.add_row(*cells, style="bold green" if position == self.highlighted else None)
        return table

    def markdown(self) -> str:
        """Return it in Markdown, without a newline at its end; what a cell holds is read as it is, never as markup."""
        head, *rows = ([markdown_text(str(cell)) for cell in line] for line in (self.columns, *self.rows))
        lines = [head, ["---", *["---:"] * (len(self.columns) - 1)], *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def write_csv(self, path: str | Path) -> None:
        """Write it as CSV, whole or not at all; an existing file is replaced, and what is None is left empty."""
        with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([self.columns, *self.rows])


def visible_text(text: str, but: str = "\n") -> str:
    r"""Return a text with ``\x1b`` in place of a control character, which nobody sees and a terminal would obey.

    Args:
        text: Whatever it is.
        but: Control characters that stay.
    """
    return "".join(repr(some)[1:-1] if category(some) == "Cc" and some not in but else some for some in text)


def markdown_text(text: str) -> str:
    r"""Return Markdown, for a sentence or a cell, that a reader sees as the text itself.

    What would be markup has a backslash before it, by CommonMark and for the dollars and tables of GitHub; line breaks
    are written by their number, and so is space at both ends; other control characters are made visible.

    Example:
        >>> print(markdown_text("<b> a|b, cost $5$"))
        \<b\> a\|b, cost \$5\$
    """
    marked = re.sub(r"[\\`*\[\]<>|$~&]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", visible_text(text, BREAKS))
    return re.sub(rf"^\s+|\s+$|[{BREAKS}]", lambda space: "".join(f"&#{ord(some)};" for some in space[0]), marked)


def markdown_code(text: str) -> str:
    """Return Markdown that a reader sees as the text itself, set as code: between backticks, as many as it takes."""
    if not text.strip() or visible_text(text, but="") != text:
        return markdown_text(text)  # code is one line
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    inside = f" {text} " if {text[0], text[-1]} & {"`", " "} else text
    return f"{fence}{inside}{fence}"
