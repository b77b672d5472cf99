"""The page of what training for edits costs: means over networks trained alike, of the results alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editable.board import Board
from editable.board.result import Result, read_results
from editable.board.trade import trade_page_of, write_trade
from tests.board.results import result
from tests.board.small import content, write
from tests.paths import DOCS, ROOT


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.chdir(tmp_path)
    return Board.read(write(Path("board.yaml"), content() | {"page": "trade", "title": "What it costs"}))


def single(network: str, title: str, editor: str, error: float, drawdown: float, success: float = 1.0) -> Result:
    """A result of single edits."""
    metrics = {
        "scoring_error": error,
        "drawdown": drawdown,
        "drawdown_half_width": 0.001,
        "success_rate": success,
        "generality": 0.5,
        "num_steps": 2.5,
        "num_edits": 10,
    }
    some = result(
        editor,
        1.0,
        0.0,
        protocol="independent",
        titles=(title, "single edits", editor),
        command="test",
        metrics=metrics,
        points=[],
    )
    return Result(**{**vars(some), "network": network})


def test_a_line_has_means_over_networks_and_their_spread(board: Board):
    """0.10, 0.12: mean 11, standard deviation √2 = 1.41 points; 0.01, 0.04: 2.5 and 2.12."""
    found = [single("a_0", "plain", "gd", 0.10, 0.01), single("a_1", "plain", "gd", 0.12, 0.04, 0.9)]
    page = trade_page_of(board, found, "results", "docs/page.md")
    cells = ["plain", "gd", "2", "11.00 ± 1.41", "2.50 ± 2.12", "95.0 ± 7.1", "50.0 ± 0.0", "2.50 ± 0.00", ""]
    assert f"| {' | '.join(cells)} |" in page
    assert "The drawdown of each network is known to ± 0.10 points (95 %)." in page
    assert page.startswith("# What it costs\n")
    assert "python train.py board --board board.yaml --results results --page docs/page.md --train" in page


def test_a_single_network_has_no_spread(board: Board):
    page = trade_page_of(board, [single("a_0", "a|b", "gd", 0.1, 0.01)], "results", "page.md")
    assert "| a\\|b | gd | 1 | 10.00 | 1.00 | 100.0 | 50.0 | 2.50 |  |" in page


def test_nothing_is_there(board: Board):
    assert write_trade(board, "results", "docs/page.md") == 0
    assert "4 of 4 results are missing" in Path("docs/page.md").read_text()
    assert not Path("docs/figures").exists()


def test_page_and_figure_are_of_the_files_alone(board: Board):
    for network, title, error in (("a_0", "plain", 0.1), ("b_0", "for edits", 0.11)):
        for editor, drawdown in (("gd", 0.05), ("rmsprop", -0.0001)):
            one = single(network, title, editor, error, drawdown)
            one.write(f"results/{network}/independent/{editor}.json")
    pages = []
    for folder in ("first", "second"):
        assert write_trade(board, "results", f"{folder}/page.md") == 4
        with Image.open(f"{folder}/figures/page.png") as picture:
            pages.append(np.asarray(picture))
    assert np.array_equal(*pages)
    colours = {tuple(colour) for colour in pages[0][..., :3].reshape(-1, 3)}
    assert {(0, 114, 178), (213, 94, 0)} <= colours  # of the two trainings: blue and vermillion


def test_the_committed_page_is_that_of_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    found = read_results("results/fast")
    board = Board.read("results/fast.yaml")
    again = "make it again: python train.py board --board results/fast.yaml --results results/fast --page_only"
    page = trade_page_of(board, found, "results/fast", "docs/fast.md")
    assert page == (DOCS / "fast.md").read_text(), again
    assert (DOCS / "figures" / "fast.png").is_file() == bool(found), again
    for some in found:
        assert (ROOT / "results" / "fast" / some.network / some.protocol / f"{some.editor}.json").is_file()
