"""Tables of text: Markdown as it is written, and what the terminal shows."""

from rich.console import Console

from editable.tables import markdown_table, terminal_table

HEADER, ROWS = ("editor", "drawdown"), [("RMSProp", "1.77"), ("Adam", "19.4")]


def test_markdown_aligns_figures_to_the_right():
    assert markdown_table(HEADER, ROWS) == "| editor | drawdown |\n| --- | ---: |\n| RMSProp | 1.77 |\n| Adam | 19.4 |"


def test_the_terminal_shows_title_header_and_rows():
    console = Console(width=60, record=True, quiet=False)
    with console.capture() as capture:
        console.print(terminal_table(HEADER, ROWS, title="Editors"))
    title, *lines = capture.get().splitlines()
    assert title.strip() == "Editors"
    cells = [[cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in lines]
    assert [*HEADER] in cells
    assert all([*row] in cells for row in ROWS)
