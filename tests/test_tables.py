"""One table: Markdown as it is written, what the terminal shows, and CSV with exact values."""

from pathlib import Path

from rich.console import Console

from editable.tables import Table

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
