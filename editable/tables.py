"""Tables of text, for reports and for the terminal: a first column of names, further ones of figures."""

from collections.abc import Iterable, Sequence

from rich.table import Table

__all__ = ["markdown_table", "terminal_table"]


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, without a newline at its end."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def terminal_table(header: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> Table:
    """Return a table to be printed by ``rich``."""
    table = Table(title=title)
    for position, name in enumerate(header):
        table.add_column(name, justify="right" if position else "left")
    for row in rows:
        table.add_row(*row)
    return table
