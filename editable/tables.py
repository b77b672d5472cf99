"""The one table: built once, read on the terminal and in Markdown, or kept as CSV."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich.table

from editable.atomic import write_atomically

__all__ = ["Table"]


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
        table = rich.table.Table(title=self.title)
        for position, name in enumerate(self.columns):
            table.add_column(name, justify="right" if position else "left")
        for position, row in enumerate(self.rows):
            table.add_row(*map(str, row), style="bold green" if position == self.highlighted else None)
        return table

    def markdown(self) -> str:
        """Return it in Markdown, without a newline at its end."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)

    def write_csv(self, path: str | Path) -> None:
        """Write it as CSV, whole or not at all; an existing file is replaced, and what is None is left empty."""
        with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([self.columns, *self.rows])
