"""Rows of a table that a user has: CSV or Parquet, the columns that are wanted and the place of each row."""

import csv
import importlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from editable.data.classes import name_text
from editable.errors import UserError
from editable.text_files import read_text, require_file

__all__ = ["TableRow", "read_rows"]


class TableRow(NamedTuple):
    """The cells that are wanted of a row, as text, and where it stands: ``line 3``, ``row 2``."""

    cells: tuple[str, ...]
    place: str


def read_rows(table: str | Path, columns: Sequence[str]) -> list[TableRow]:
    """Read some columns of a table, without a look at what they name.

    Of CSV, further columns and empty lines are passed over; names and commas in quotes, either line ending, a byte
    order mark, and blanks around cells are read.

    Args:
        table: A CSV file in UTF-8, or a Parquet file, which ends in ``.parquet``.
        columns: Names of the columns.

    Returns:
        The rows in their order; there may be none.

    Raises:
        FileNotFoundError: If there is none; whoever asks for it says what it would be.
        UserError: If the file cannot be read, or has not each column once.
    """
    return list((_parquet_rows if Path(table).suffix.lower() == ".parquet" else _csv_rows)(table, columns))


def _csv_rows(table: str | Path, columns: Sequence[str]) -> Iterator[TableRow]:
    reader = csv.reader(io.StringIO(read_text(table), newline=""), strict=True, skipinitialspace=True)
    places: list[int] | None = None
    width = 0
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if places is None:
                places, width = _places(cells, columns, table), len(cells)
                continue
            if len(cells) != width:
                raise UserError(
                    f"line {reader.line_num} of '{table}' has {len(cells)} cells where its first line has {width}: put "
                    "a name with a comma in it into quotes"
                )
            yield TableRow(tuple(cells[place] for place in places), f"line {reader.line_num}")
    except csv.Error as error:
        raise UserError(f"line {reader.line_num} of '{table}' cannot be read as CSV ({error})") from error


def _places(cells: list[str], columns: Sequence[str], table: str | Path) -> list[int]:
    """Return which columns are wanted."""
    wanted = " and ".join([", ".join(columns[:-1]), columns[-1]] if len(columns) > 1 else columns)
    for name in columns:
        if cells.count(name) != 1:
            how = "no column" if name not in cells else f"{cells.count(name)} columns"
            raise UserError(
                f"'{table}' has {how} '{name}' in its first line, which is '{','.join(cells)}': it must have {wanted} "
                "once each, with commas between"
            )
    return [cells.index(name) for name in columns]


def _parquet_rows(table: str | Path, columns: Sequence[str]) -> Iterator[TableRow]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UserError(f"'{table}' is read by the package pyarrow: pip install -e '.[hub]', or give CSV") from error
    require_file(table)
    try:
        names = parquet.read_schema(table).names
        missing = [name for name in columns if name not in names]
        if missing:
            raise UserError(f"'{table}' has no column '{missing[0]}': it has {', '.join(names)}")
        read = parquet.read_table(table, columns=list(dict.fromkeys(columns)))
    except (UserError, FileNotFoundError):
        raise
    except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds
        reason = " ".join(str(error).split())
        raise UserError(f"'{table}' cannot be read as Parquet ({reason})") from error
    values = [read.column(name).to_pylist() for name in columns]
    for number, cells in enumerate(zip(*values, strict=True)):
        yield TableRow(tuple(map(_text, cells)), f"row {number}")


def _text(value: Any) -> str:
    """Return a cell as CSV would have it: a whole number without a point, nothing as empty."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return name_text(value).strip() if isinstance(value, str | int | float | bool) else str(value)
