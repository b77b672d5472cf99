"""A cell: constants are chosen by edits that are not reported, and what has changed since is told."""

from pathlib import Path
from typing import Any

import pytest

from editable.board import Board, cell
from editable.board.cell import changed_options, make, num_runs, state_of
from editable.board.result import Result
from editable.board.run import FailedRun, FinishedRun, KilledRun
from tests.board.results import metrics
from tests.board.small import content, write


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Runs:
    """Stands in for runs: at a rate there is some success and harm, or a failure."""

    def __init__(self, outcomes: dict[float, tuple[float, float] | str]) -> None:
        self.outcomes, self.made = outcomes, list[tuple[float, bool]]()

    def __call__(self, command: str, config: dict[str, Any], folder: Path, version: str) -> FinishedRun:
        rate = config["evaluation"]["editor"]["init_args"]["rule"]["init_args"]["learning_rate"]
        self.made.append((rate, "held_out" in config["stream"]))
        outcome = self.outcomes[rate]
        if isinstance(outcome, str):
            raise FailedRun(outcome)
        return FinishedRun(metrics(*outcome), [], 1.5)


def some_cell(board: dict[str, Any] | None = None, editor: str = "gd"):
    (found,) = Board.read(write(Path("board.yaml"), board)).only(["stream", editor])
    return found


@pytest.mark.parametrize(
    ("outcomes", "chosen"),
    [
        ({0.01: (1.0, 0.02), 0.1: (1.0, 0.01)}, 0.1),
        ({0.01: (1.0, 0.02), 0.1: (0.9, 0.01)}, 0.01),
        ({0.01: (0.5, 0.0), 0.1: (0.9, 0.01)}, 0.1),
        ({0.01: "it ended", 0.1: (0.1, 0.9)}, 0.1),
    ],
)
def test_constants_are_chosen_by_what_is_not_reported(outcomes, chosen, monkeypatch: pytest.MonkeyPatch):
    runs = Runs(outcomes)
    monkeypatch.setattr(cell, "run", runs)
    told: list[tuple[str, int]] = []
    result = make(some_cell(), "work", "results", lambda what, number: told.append((what, number)))
    assert runs.made == [(0.01, True), (0.1, True), (chosen, False)]
    assert [number for _, number in told] == [0, 1, 2]
    assert result.constants == {"rule.learning_rate": chosen}
    assert [some.constants["rule.learning_rate"] for some in result.searched] == [0.01, 0.1]
    assert [some.failed for some in result.searched] == [
        some if isinstance(some, str) else "" for some in outcomes.values()
    ]
    assert result.config["evaluation"]["editor"]["init_args"]["rule"]["init_args"] == {"learning_rate": chosen}
    assert "held_out" not in result.config["stream"]


def test_nothing_to_choose(monkeypatch: pytest.MonkeyPatch):
    runs = Runs({0.01: (1.0, 0.0)})
    monkeypatch.setattr(cell, "run", runs)
    result = make(some_cell(editor="rmsprop"), "work", "results", lambda what, number: None)
    assert runs.made == [(0.01, False)]
    assert (result.constants, result.searched) == ({}, [])


def test_a_search_that_protocols_share_is_made_once(monkeypatch: pytest.MonkeyPatch):
    runs = Runs({0.01: (1.0, 0.02), 0.1: (1.0, 0.01)})
    monkeypatch.setattr(cell, "run", runs)
    board = content()
    board["protocols"]["together"] = board["protocols"]["stream"] | {"search": "stream"}
    board["protocols"]["together"]["options"] = {"stream": {"num_edits": 3, "protocol": "together"}}
    cells = Board.read(write(Path("board.yaml"), board)).only(["stream", "together", "gd"])
    assert num_runs(cells, "results") == 4
    for number, some in enumerate(cells):
        assert num_runs([some], "results") == (1 if number else 3)
        make(some, "work", "results", lambda what, number: None).write(some.path("results"))
    assert runs.made == [(0.01, True), (0.1, True), (0.1, False), (0.1, False)]
    first, second = (Result.read(some.path("results")) for some in cells)
    assert first.searched == second.searched
    assert first.config["stream"].get("protocol") != second.config["stream"]["protocol"]
    Path("own.safetensors").write_bytes(b"others")
    assert num_runs(cells, "results") == 4


def test_all_have_failed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cell, "run", Runs({0.01: "first", 0.1: "no such layer"}))
    with pytest.raises(FailedRun, match="all 2 candidates have failed, the last one because no such layer"):
        make(some_cell(), "work", "results", lambda what, number: None)


def test_a_candidate_that_a_signal_has_ended_is_none_that_has_failed(monkeypatch: pytest.MonkeyPatch):
    def killed(*arguments: object) -> FinishedRun:
        raise KilledRun("a signal has ended a run")

    monkeypatch.setattr(cell, "run", killed)
    with pytest.raises(KilledRun):
        make(some_cell(), "work", "results", lambda what, number: None)
    runs = Runs({0.01: (1.0, 0.0), 0.1: (1.0, 0.1)})
    monkeypatch.setattr(cell, "run", runs)
    assert make(some_cell(), "work", "results", lambda what, number: None).constants == {"rule.learning_rate": 0.01}


def test_what_has_changed_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cell, "run", Runs({0.01: (1.0, 0.0), 0.1: (1.0, 0.1), 0.2: (1.0, 0.0)}))
    one = some_cell()
    assert state_of(one, "results") == "new"
    make(one, "work", "results", lambda what, number: None).write(one.path("results"))
    assert state_of(one, "results") == ""
    board = content()
    board["editors"]["gd"]["search"]["rule.learning_rate"] = [0.01, 0.2]
    board["editors"]["gd"]["title"] = "another title is no other option"
    assert state_of(some_cell(board), "results") == (
        "options have changed: candidates[1].rule.learning_rate: 0.1 → 0.2"
    )
    board = content()
    board["protocols"]["stream"]["options"]["stream"]["num_edits"] = 9
    told = state_of(some_cell(board), "results")
    assert "config.stream.num_edits: 3 → 9" in told
    Path("own.safetensors").write_bytes(b"others")
    assert "weights: " in state_of(one, "results")


def test_changes_are_named_as_options_are():
    before = {"config": {"model": {"class_path": "a", "init_args": {"x": 1, "y": [1, 2]}}}, "gone": {}}
    after = {"config": {"model": {"class_path": "a", "init_args": {"x": 2, "y": [1]}}}, "new": 3}
    assert changed_options(before, after) == [
        "config.model.x: 1 → 2",
        "config.model.y[1]: 2 → None",
        "gone: {} → None",
        "new: None → 3",
    ]
    assert changed_options(before, before) == []
