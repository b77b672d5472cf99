"""The page: made of results alone, in an order that means something, and the committed one is that of the results."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editable.board import Board, write_page
from editable.board.page import page_of, ranked
from editable.board.result import Result, read_results
from tests.board.results import result
from tests.board.small import content, write
from tests.paths import DOCS, ROOT


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.chdir(tmp_path)
    return Board.read(write(Path("board.yaml")))


def test_those_that_hold_come_first_by_harm():
    some = [result("a", 0.9, 0.0), result("b", 1.0, 0.03), result("c", 0.95, 0.01), result("d", 0.99, -0.01)]
    assert [one.editor for one in ranked(some, 0.95)] == ["d", "c", "b", "a"]
    assert [one.editor for one in ranked(some, 0.995)] == ["b", "d", "c", "a"]


def test_a_line_has_the_figures(board: Board):
    page = page_of(board, [result("gd", 0.975, 0.0125, [(0.1, 1.0, 0.2), (0.2, None, None)])])
    line = "| GD | 97.5 | +1.25 | 13.75 | 6.25 |  | 37.5 | 1 |  | 12.5 | 12 | learning\\_rate 0.1 | 2 |"
    assert line.replace("\\", "") in page.replace("\\", "")
    assert "40 edits; error before 12.50 %." in page
    assert "| GD | rule.learning_rate 0.1, 0.2 | 1 |" in page.replace("\\", "")
    assert "Candidates that failed: `digits · stream · gd`: learning_rate 0.2." in page
    assert "some, AVX2, 2 threads; torch 2.8, lightning 3; commit 0123456789: 1 results" in page


def test_what_is_missing_is_told(board: Board):
    assert "4 of 4 results are missing: 4 of digits." in page_of(board, [])
    some = result("gd", 1.0, 0.0, asked=board.only(["stream", "gd"])[0].asked())
    page = page_of(board, [some])
    assert "3 of 4 results are missing: 3 of digits." in page
    assert "other options" not in page
    other = content()
    other["protocols"]["stream"]["options"]["stream"]["num_edits"] = 9
    changed = Board.read(write(Path("board.yaml"), other))
    assert "`digits · stream · gd` was made with other options than the board has now." in page_of(changed, [some])


def test_names_are_no_markup(board: Board):
    page = page_of(board, [result("gd", 1.0, 0.0, titles=("a|b", "<i>", "*c*"))])
    assert "## a\\|b: \\<i\\>" in page
    assert "| \\*c\\* |" in page


def test_page_and_figure_are_of_the_files_alone(board: Board):
    for protocol in ("stream", "independent"):
        for editor, harm in (("gd", 0.01), ("rmsprop", -0.0025)):
            result(editor, 1.0, harm, protocol=protocol).write(f"results/digits/{protocol}/{editor}.json")
    pages = []
    for folder in ("first", "second"):
        assert write_page(board, "results", f"{folder}/board.md") == 4
        with Image.open(f"{folder}/figures/board.png") as picture:
            pages.append((Path(folder, "board.md").read_text(), np.asarray(picture)))
    assert pages[0][0] == pages[1][0] == page_of(board, read_results("results"))
    assert np.array_equal(pages[0][1], pages[1][1])
    assert len(np.unique(pages[0][1])) > 1


@pytest.mark.usefixtures("fine_figures")
def test_the_committed_page_is_that_of_the_results(tmp_path: Path):
    found = read_results(ROOT / "results")
    assert write_page(Board.read(ROOT / "results" / "board.yaml"), ROOT / "results", tmp_path / "board.md") == len(
        found
    )
    again = "make it again: python train.py board --page_only"
    assert (tmp_path / "board.md").read_text() == (DOCS / "board.md").read_text(), again
    figure = DOCS / "figures" / "board.png"
    assert figure.is_file() == bool(found), again
    if found:
        with Image.open(figure) as there, Image.open(tmp_path / "figures" / "board.png") as made:
            assert there.size == made.size, again
            difference = np.abs(np.asarray(there.convert("L"), float) - np.asarray(made.convert("L"), float))
        assert difference.mean() < 1, again  # of 255: fonts differ a little between versions of matplotlib


def test_results_lie_where_their_names_say():
    for path in (ROOT / "results").glob("*/*/*.json"):
        some = Result.read(path)
        assert path == ROOT / "results" / some.network / some.protocol / f"{some.editor}.json"
