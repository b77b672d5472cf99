"""One table: Markdown as it is written, what the terminal shows, and CSV with exact values."""

import csv
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from editable.tables import Table, markdown_code, markdown_text

COLUMNS, ROWS = ("editor", "drawdown"), [("RMSProp", "1.77"), ("Adam", "19.4")]


def test_markdown_aligns_figures_to_the_right():
    lines = Table(COLUMNS, ROWS).markdown()
    assert lines == "| editor | drawdown |\n| --- | ---: |\n| RMSProp | 1.77 |\n| Adam | 19.4 |"


def test_the_terminal_shows_title_header_and_rows():
    console = Console(width=60, record=True, quiet=False)
    with console.capture() as capture:
        console.print(Table(COLUMNS, ROWS, "Editors").terminal())
    title, *lines = capture.get().splitlines()
    assert title.strip() == "Editors"
    cells = [[cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in lines]
    assert [*COLUMNS] in cells
    assert all([*row] in cells for row in ROWS)


def test_csv_holds_values_as_they_are(tmp_path: Path):
    Table(["name", "value"], [["a, b", 1 / 3], ["c", None]]).write_csv(tmp_path / "deep" / "table.csv")
    assert (tmp_path / "deep" / "table.csv").read_text().splitlines() == [
        "name,value",
        '"a, b",0.3333333333333333',
        "c,",
    ]


def test_a_highlighted_row_stands_out_on_the_terminal_alone():
    rows = [["GD", 1], ["Adam", 2]]
    table = Table(["editor", "drawdown"], rows, highlighted=1)
    assert [row.style for row in table.terminal().rows] == [None, "bold green"]
    assert table.markdown() == Table(["editor", "drawdown"], rows).markdown()


NAMES = [
    *(
        "crane [bird]",
        "[/b]",
        "[link](x)",
        "a|b",
        "\\|",
        "cost $5$ a $x$",
        "<b>bold</b>",
        "<!-- x",
        "&amp;",
        "*a* **b**",
    ),
    *(
        "_a_ a_b_c __x",
        "`code`",
        "``",
        "~~a~~",
        "C#",
        "# 1",
        "- x",
        "null",
        "猫",
        "two\nlines",
        "a\r\nb",
        "a\tb",
        " x ",
    ),
    *(" x ", "![i](j)", "http://x.y", "a\\", "|", "\u2028", "x" * 300, ":smile:", "1. x", "> x", "=", "[^1]", "---"),
]


def read_cells(text: str) -> list[str]:
    """Return what a reader of CommonMark with tables sees in each cell."""
    inline = [token for token in MarkdownIt("commonmark").enable("table").parse(text) if token.type == "inline"]
    for token in inline:
        assert all(child.type in ("text", "text_special") for child in token.children), token.content
    return ["".join(child.content for child in token.children) for token in inline]


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_of_markdown_sees_the_name(name: str):
    assert read_cells(Table(["a", name], [[name, 1], ["b", name]]).markdown()) == ["a", name, name, "1", "b", name]
    assert read_cells(f"the class {markdown_text(name)}, and more") == [f"the class {name}, and more"]


@pytest.mark.parametrize("name", ["a`b", "``", "`", "a|b", "--patches [x]/$y$", " x", "<b>"])
def test_code_in_markdown_is_the_name(name: str):
    (inline,) = [token for token in MarkdownIt("commonmark").parse(f"see {markdown_code(name)}.") if token.children]
    assert [(child.type, child.content) for child in inline.children] == [
        ("text", "see "),
        ("code_inline", name),
        ("text", "."),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_terminal_shows_the_name(name: str):
    console = Console(width=40, record=True)
    with console.capture() as capture:
        console.print(Table([name, "value"], [[name, 1]], name).terminal())
    cells = [line.replace("┃", "│").split("│")[1] for line in capture.get().splitlines() if line[0] in "┃│"]
    shown, wanted = (
        "".join("".join(text).split()) for text in (cells, 2 * [name.replace("\r", "\\r").replace("\t", "\\t")])
    )
    assert shown == wanted


def test_a_file_holds_the_names(tmp_path: Path):
    Table(["name", "value"], [[name, 1] for name in NAMES]).write_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        assert [row[0] for row in csv.reader(file)] == ["name", *NAMES]
