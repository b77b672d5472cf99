"""The tables of figures on the pages, from what is stored of them: ``python docs/tables.py``.

A page has a comment where a table goes, which names its file::

    <!-- results/measured/results.six_editors.json, by python docs/tables.py -->

and the table behind it is written anew from that file, ``results/measured/<page>.<table>.json``, which holds

- ``title``: what was measured; ``on``: with what (processor, versions), where the page says so;
- ``commands``: those that measured it, as the page has them, or none and ``otherwise``, which says how
  else; or each row has a ``command``;
- ``columns``, each with a ``key``, a ``title``, a ``cell``, which is a format string of Python's for the row's values
  (by default ``{key}``; `Cells` has further formats; where a value is missing the cell is empty), and an ``align``
  where it is another than right for numbers with a format and left for all else;
- ``rows``, each with its values by name: words, and numbers that are no text; rates are fractions, as in a run's
  ``metrics.json``. Those below ``metrics`` are a run's own, from that file or another that it left, with all digits,
  named as the columns need them; all others were copied from the page, and have the digits that it had. Besides, by a
  column's key: ``bold`` cells, ``notes`` (a mark behind the cell), and ``cells`` that are written otherwise than the
  column says; ``italic`` rows are not ours, but published or aimed at.

A file without columns is no table, but has the points of a figure; ``docs/figures/measured.py`` draws these, and such
rows of tables as have a name for it, ``drawn``.

To add a table, write its file, and the comment into the page. ``tests/docs/test_tables.py`` holds pages to the store.
"""

import json
import re
import string
from decimal import Decimal
from pathlib import Path
from typing import Any

from editable.atomic import write_atomically

ROOT = Path(__file__).parents[1]
STORE = ROOT / "results" / "measured"
PAGES = sorted((ROOT / "docs").glob("*.md"))
PLACE = re.compile(r"^<!-- results/measured/(\S+)\.json, by python docs/tables\.py -->\n\n(?:\|.*\n)*", re.MULTILINE)
"""A comment with the name of a table, and the table below it, if it is there already."""
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Cells(string.Formatter):
    """Python's format strings, with further formats of numbers, and − for minus.

    ``.1p`` is a hundred times the number, for fractions in percent or points; ``e`` is what people type, 5.6e-4;
    ``t`` is what they write, 5.6·10⁻⁴. A ``~`` at the end leaves out zeros behind the point: 99.5 and 100. What lies
    in the middle of two numbers is rounded to the even one.
    """

    def format_field(self, value: Any, format_spec: str) -> str:
        """Return a value as it is written in a cell."""
        spec = format_spec.removesuffix("~")
        if isinstance(value, str) or not spec:
            return str(value)
        if spec[-1] in "et":
            digits, power = f"{value:{spec[:-1] or '.1'}e}".split("e")
            sign = f"·10{str(int(power)).translate(SUPERSCRIPTS)}" if spec[-1] == "t" else f"e{int(power)}"
            return digits.removesuffix(".0") + sign
        exact = Decimal(str(value)) if spec[-1] in "fp" else value
        text = f"{100 * exact:{spec[:-1]}f}" if spec[-1] == "p" else f"{exact:{spec}}"
        text = text.rstrip("0").rstrip(".") if spec != format_spec and "." in text else text
        return text.replace("-", "−", 1) if text.startswith("-") else text


def read(name: str) -> dict[str, Any]:
    """Return a table's file, by its name without the ending."""
    return json.loads((STORE / f"{name}.json").read_text(encoding="utf-8"))


def markdown(table: dict[str, Any]) -> str:
    """Return a table as it stands on its page, with a newline at its end."""
    columns = table["columns"]
    rules = ["---:" if _align(column) == "right" else "---" for column in columns]
    lines = [[column["title"] for column in columns], rules]
    lines += [[_cell(row, column) for column in columns] for row in table["rows"]]
    return "".join(f"| {' | '.join(line)} |\n".replace("|  |", "| |").replace("|  |", "| |") for line in lines)


def _align(column: dict[str, str]) -> str:
    return column.get("align", "right" if ":" in column.get("cell", "") else "left")


def _cell(row: dict[str, Any], column: dict[str, str]) -> str:
    key = column["key"]
    form = row.get("cells", {}).get(key, column.get("cell", f"{{{key}}}"))
    known = row | row.get("metrics", {})
    if any(known.get(name) is None for _, name, _, _ in string.Formatter().parse(form) if name):
        return ""
    text = Cells().vformat(form, (), known)
    text = f"**{text}**" if key in row.get("bold", ()) else f"*{text}*" if row.get("italic") and text else text
    return " ".join([text, *row.get("notes", {}).get(key, "").split()])


def written(page: str) -> str:
    """Return a page's text with its tables as the store has them."""
    return PLACE.sub(lambda place: place[0].split("\n")[0] + "\n\n" + markdown(read(place[1])), page)


def main() -> None:
    """Write the tables into their pages; say which pages are others than before."""
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        if (new := written(text)) != text:
            with write_atomically(path) as temporary:
                temporary.write_text(new, encoding="utf-8")
            print(f"changed: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
