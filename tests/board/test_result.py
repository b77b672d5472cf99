"""What is kept of a cell: figures by name, whole files, and the choice among candidates."""

import json
from pathlib import Path

import pytest

from editable.board.result import Figures, Result, best_of, commit, read_results, surroundings
from editable.errors import UserError
from tests.board.results import figures, result


def test_figures_of_a_stream():
    metrics = {
        "stream_error_before": 0.125,
        "stream_error": 0.25,
        "stream_retention": 0.9,
        "stream_broken": 0.15,
        "stream_num_edits": 40,
        "stream_seconds_per_edit": 0.5,
        "test_error": 0.7,
    }
    assert Figures.of("stream", metrics) == Figures(0.9, 0.125, None, 0.125, 0.15, None, None, 0.5, 40)


@pytest.mark.parametrize("kind", ["", "mistake_", "table_"])
def test_figures_of_single_edits(kind: str):
    own = {"drawdown": 0.01, "drawdown_half_width": 0.002, "success_rate": 0.75, "generality": 0.5, "num_edits": 8}
    metrics = {"scoring_error": 0.2, "test_error": 0.3} | {f"{kind}{name}": value for name, value in own.items()}
    assert Figures.of("test", metrics) == Figures(0.75, 0.01, 0.002, 0.2, None, 0.5, None, None, 8)


def test_a_figure_that_is_missing():
    with pytest.raises(UserError, match="the metrics of a run of stream lack 'retention'"):
        Figures.of("stream", {"stream_error_before": 0.1, "stream_error": 0.1})


def test_the_choice_among_candidates():
    some = [None, figures(0.9, 0.001), figures(0.95, 0.02), figures(1.0, 0.01), figures(0.96, 0.01)]
    assert best_of(some, 0.95) == 3  # the least harm of those that hold, and the first of two
    assert best_of(some, 0.99) == 3
    assert best_of(some[:3], 0.99) == 2  # nothing holds: what holds most often
    assert best_of([figures(0.5, 0.2), figures(0.5, 0.1)], 0.9) == 1


def test_a_result_is_read_as_it_was_written(tmp_path: Path):
    some = result("gd", 0.9, 0.01, searched=[(0.1, 0.5, 0.2), (0.2, None, None)])
    some.write(tmp_path / "digits" / "stream" / "gd.json")
    assert read_results(tmp_path) == [some]
    assert Result.read(tmp_path / "digits" / "stream" / "gd.json").figures == some.figures


def test_how_many_edits_stay_within_a_budget():
    judged = [(1, 0.1275, None), (2, 0.1274, 0.25), (5, 0.13, 0.5), (10, 0.125, 0.75)]  # of 0.125 before
    points = [{"num_edits": number, "error": error, "group_generality": same} for number, error, same in judged]
    some = result("gd", 1.0, 0.0, points=points)
    assert some.within(0.0025) == (2, 0.25)  # what comes after 0.5 points does not count
    assert some.within(0.005) == (10, 0.75)
    assert some.within(0.0001) == (0, None)
    assert result("gd", 1.0, 0.0, points=[]).within(0.0025) is None


@pytest.mark.parametrize("text", ['{"network": "a"}', "[1]", '{"titles": 3, "searched": []}', "nothing"])
def test_what_is_no_result(text: str, tmp_path: Path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"a\.json"):
        Result.read(tmp_path / "a.json")


def test_surroundings_are_plain():
    some = surroundings()
    assert json.loads(json.dumps(some)) == some
    assert all((some["capability"], some["torch"], some["threads"] >= 1))
    assert commit() is None or len(commit().rstrip("+")) == 40
