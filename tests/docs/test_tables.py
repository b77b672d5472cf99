"""Tables of figures on the pages are those of the store, and each has the command that measured it."""

import json
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.command_line.parsing import OnlyParsed
from tests.docs.blocks import PAGES, words_of
from tests.docs.test_commands import NOT_RUNS, TYPED, parsed_words
from tests.paths import DOCS, ROOT

SCRIPT = SimpleNamespace(**runpy.run_path(str(DOCS / "tables.py")))
STORE = ROOT / "results" / "measured"
FILES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(STORE.iterdir())}
NAMES = [name for name, file in FILES.items() if "columns" in file]
"""Of tables; other files have points of figures."""
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
OTHERS = {
    "docs/board.md": "the command `board` makes it from results/, and a test of that command compares them",
    "docs/fast.md": "likewise",
    "configs/README.md": "figures of the paper",
    "docs/scale.md": "`benchmarks/scale.py` prints it, and a test compares them",
}
"""Pages whose tables of figures have another source than the store."""
NUMBER = re.compile(r"[−-]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]


def page_of(name: str) -> Path:
    return DOCS / f"{name.split('.')[0]}.md"


def table_of(name: str) -> list[list[str]]:
    """The rows of a table on its page, without what names columns."""
    [below] = re.findall(
        rf"^<!-- results/measured/{re.escape(name)}\.json.*-->\n\n((?:\|.*\n)+)", TEXTS[page_of(name)], re.M
    )
    return [cells(line) for line in below.splitlines()[2:]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_what_the_store_has(page: Path):
    assert SCRIPT.written(TEXTS[page]) == TEXTS[page], "python docs/tables.py writes it anew"


def test_every_stored_table_is_on_its_page_alone():
    shown = {page: re.findall(r"^<!-- results/measured/(\S+)\.json", text, re.M) for page, text in TEXTS.items()}
    assert sorted(name for names in shown.values() for name in names) == NAMES
    assert not [name for page, names in shown.items() for name in names if page_of(name) != page]


@pytest.mark.parametrize("name", NAMES)
def test_its_numbers_are_those_of_the_store(name: str):
    """Each is a value of its row, or a hundred times one, up to half of its last digit."""
    table = FILES[name]
    shown = table_of(name)
    assert len(shown) == len(table["rows"])
    for row, line in zip(table["rows"], shown, strict=True):
        known = [value for value in (row | row.get("metrics", {})).values() if isinstance(value, int | float)]
        for column, cell in zip(table["columns"], line, strict=True):
            if ":" not in column.get("cell", ""):
                continue
            for text in NUMBER.findall(re.sub(r"·10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", _typed, re.sub("`.*?`", "", cell))):
                number = float(text.replace("−", "-").replace(",", ""))
                digits, _, power = text.partition("e")
                half = 0.501 * 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))
                near = [value for value in known for scale in (1, 100) if abs(scale * value - number) <= half]
                assert near, f"{text} in {cell}, of {row}"


def _typed(power: re.Match[str]) -> str:
    return "e" + power[0].removeprefix("·10").translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))


def commands_of(name: str) -> list[str]:
    """A table's commands; those of rows are in code, benchmarks without their folder."""
    rows = [row["command"] for row in FILES[name]["rows"] if "command" in row]
    said = [some for cell in rows for some in re.findall("`([^`]+)`", cell)]
    return FILES[name].get("commands", []) + [re.sub(r"^(?=\w+\.py\b)", "python benchmarks/", some) for some in said]


@pytest.mark.parametrize("name", FILES)
def test_it_says_what_measured_it(name: str):
    table, page = FILES[name], re.sub(r"[\s\\]+", " ", TEXTS[page_of(name)])
    assert table["title"]
    assert bool(commands_of(name)) != bool(table.get("otherwise"))
    for command in table.get("commands", []):
        assert re.sub(r"[\s\\]+", " ", command) in page, f"{command} is not on the page"


@pytest.mark.parametrize("command", sorted({some for name in FILES for some in commands_of(name)}))
def test_its_commands_are_taken(command: str, monkeypatch: pytest.MonkeyPatch):
    """Files and modules are there, and options are known; what is in the pages' blocks is parsed by another test."""
    monkeypatch.chdir(ROOT)
    program, *arguments = command.split()
    if program == "pytest":
        assert all(Path(some).exists() for some in arguments if "/" in some)
    elif arguments[0] == "-m":
        assert Path(*arguments[1].split(".")).with_suffix(".py").exists()
    elif arguments[0].startswith("benchmarks/"):
        text = "".join(Path(some).read_text(encoding="utf-8") for some in (arguments[0], "benchmarks/measuring.py"))
        assert all(f'"{some}"' in text for some in arguments if some.startswith("--"))
    else:
        [words] = words_of(command)
        if words and words[0] not in NOT_RUNS and not any(typed[1:] == (*parsed_words(words),) for typed in TYPED):
            assert OnlyParsed(parsed_words(words)).subcommand == words[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_table_of_figures_is_from_the_store(page: Path):
    """One is a table of figures if half of its cells, but for those that name the rows, begin with a number."""
    if page.relative_to(ROOT).as_posix() in OTHERS:
        return
    text = re.sub(r"^```.*?^```", "", TEXTS[page], flags=re.MULTILINE | re.DOTALL)
    for table in TABLE.finditer(text):
        rows = [cells(line)[1:] for line in table[0].splitlines()[2:]]
        filled = [cell for row in rows for cell in row if cell]
        begin = [cell for cell in filled if re.match(r"[*≥≤ ]*[−-]?\d", cell)]
        if 2 * len(begin) >= len(filled) > 0:
            assert text[: table.start()].endswith(", by python docs/tables.py -->\n\n"), table[0]


def test_pages_with_other_sources_are_there():
    assert {page.relative_to(ROOT).as_posix() for page in PAGES} > OTHERS.keys()


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        ("{:.2p}", 0.1248, "12.48"),
        ("{:.1p~}", 1, "100"),
        ("{:.1p~}", 0.993, "99.3"),
        ("{:.1p}", -0.0047, "−0.5"),
        ("{:.2f}", 2.775, "2.78"),
        ("{:.1p}", 0.9625, "96.2"),
        ("{:e}", 0.00056, "5.6e-4"),
        ("{:e}", 0.05, "5e-2"),
        ("{:t}", 4.5e15, "4.5·10¹⁵"),
        ("{:t}", 1.058e-08, "1.1·10⁻⁸"),
        ("{:,d}", 112546, "112,546"),
        ("{:g}", 1.6e-05, "1.6e-05"),
        ("{}", 0.5, "0.5"),
        ("{}", "closed form", "closed form"),
    ],
)
def test_how_numbers_are_written(form: str, value: object, text: str):
    assert SCRIPT.Cells().format(form, value) == text


def test_a_table_is_written_behind_its_comment():
    table = {
        "columns": [
            {"key": "editor", "title": "editor"},
            {"key": "harm", "title": "harm", "cell": "{harm:.2p} ± {spread:.2p}"},
        ],
        "rows": [
            {
                "editor": "GD",
                "metrics": {"harm": 0.05571, "spread": 0.0019},
                "bold": ["harm"],
                "notes": {"harm": "²"},
            },
            {"editor": "Adam", "harm": 0.19},
            {"editor": "published", "harm": 0.0177, "italic": True, "cells": {"harm": "{harm:.2p}"}},
        ],
    }
    lines = "| editor | harm |\n| --- | ---: |\n| GD | **5.57 ± 0.19** ² |\n| Adam | |\n| *published* | *1.77* |\n"
    assert SCRIPT.markdown(table) == lines
    page = "# Page\n\n<!-- results/measured/results.digits.json, by python docs/tables.py -->\n\nText.\n"
    once = SCRIPT.written(page)
    assert SCRIPT.written(once) == once
    assert once.splitlines()[:3] == page.splitlines()[:3]
    assert once.endswith("|\nText.\n")
