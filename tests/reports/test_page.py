"""Reports as pages: what is in them, and what they do in a browser."""

import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from editable.reports import page_of, write_report
from editable.tables import Table
from tests.app.browsers import browser

NAMES = ["<b>bold</b>", "a|b", "*star*", "$x$", "`code`", "[link](x.md)"]


class Contents(HTMLParser):
    """What a page holds: its tags with their attributes, and the text of its cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self._open = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append("")
        self._open = tag in ("td", "th") or self._open

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._open:
            self.cells[-1] += data

    def all(self, tag: str, attribute: str) -> list[str | None]:
        return [attributes[attribute] for name, attributes in self.tags if name == tag and attribute in attributes]


def test_names_are_shown_as_they_are():
    table = Table(["class", "count"], [[name, "1"] for name in NAMES])
    contents = Contents(page_of(f"# About {'a & b'}\n\n{table.markdown()}\n", "."))
    assert contents.cells[2::2] == NAMES
    assert not contents.all("a", "href")
    assert "b" not in {name for name, _ in contents.tags}


def test_figures_are_in_the_page_and_nothing_else_is_asked_for(tmp_path: Path):
    Figure(figsize=(1, 1)).savefig(tmp_path / "a figure.png")
    (tmp_path / "notes.txt").write_text("no picture")
    text = "# One\n\n![first](a%20figure.png) ![gone](gone.png) ![other](notes.txt) ![far](https://example.org/a.png)\n"
    sources = Contents(page_of(text, tmp_path)).all("img", "src")
    assert b64decode(str(sources[0]).removeprefix("data:image/png;base64,")) == (tmp_path / "a figure.png").read_bytes()
    assert sources[1:] == ["gone.png", "notes.txt", "https://example.org/a.png"]
    page = page_of("# One\n", tmp_path)
    assert not Contents(page).all("script", "src")
    assert not re.search(r"url\(|@import|https?://", page)


@pytest.mark.parametrize(
    ("link", "there"),
    [
        ("baseline/report.md", "baseline/report.html"),
        ("report.md#figures", "report.html#figures"),
        ("old-report.md", "old-report.md"),
        ("edits.csv", "edits.csv"),
    ],
)
def test_links_lead_to_pages(link: str, there: str):
    assert Contents(page_of(f"[other]({link})", ".")).all("a", "href") == [there]


def test_the_title_is_the_first_heading():
    assert "<title>Edits of fc &amp; more</title>" in page_of("text\n\n# Edits of `fc` & *more*\n\n# Second", ".")
    assert "<title>Report</title>" in page_of("no heading", ".")


def test_both_files_are_written(tmp_path: Path):
    write_report(tmp_path / "report.md", "# Größe\n\nold")
    write_report(tmp_path / "report.md", "# Größe\n\nnew")
    assert (tmp_path / "report.md").read_text("utf-8") == "# Größe\n\nnew"
    assert "<p>new</p>" in (tmp_path / "report.html").read_text("utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.md"]


@pytest.mark.slow
def test_a_click_sorts_a_table_and_opens_a_figure(tmp_path: Path):
    Figure(figsize=(12, 9)).savefig(tmp_path / "figure.png")
    rows = [["RMSProp", "+1.25 %"], ["GD", "+10.00 %"], ["none", ""], ["adam", "-0.50 %"], ["scaled GD", "nan"]]
    table = Table(["editor", "drawdown"], rows)
    write_report(tmp_path / "report.md", f"# Editors\n\n{table.markdown()}\n\n![figure](figure.png)\n")
    with browser((tmp_path / "report.html").as_uri(), shows="th button") as opened:

        def first_column() -> list[str]:
            return [cell.text for cell in opened.all("tbody td:first-child")]

        name, drawdown = opened.all("th button")
        drawdown.click()
        assert first_column() == ["adam", "RMSProp", "GD", "scaled GD", "none"]
        drawdown.click()
        assert first_column() == ["scaled GD", "GD", "RMSProp", "adam", "none"]
        name.click()
        assert first_column() == ["adam", "GD", "none", "RMSProp", "scaled GD"]
        shown = opened.all("main img")[0]
        width = shown.size["width"]
        shown.click()
        (large,) = opened.all("dialog img")
        assert large.size["width"] == 1200 > width
        large.click()
        opened.until(lambda: not opened.all("dialog"))
        assert not opened.errors()
