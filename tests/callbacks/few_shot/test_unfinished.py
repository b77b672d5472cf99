"""A study that was interrupted goes on with the rules that it has tested, or refuses those of another one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from editable.callbacks.few_shot.unfinished import KEPT
from editable.callbacks.few_shot.workbench import Workbench
from editable.editing import MinimalHarmEditor
from editable.errors import UserError
from tests.callbacks.few_shot.bright_ground import save_all
from tests.callbacks.few_shot.test_callback import MOMENT, run

SETTINGS = {"shots": [1, None], "strengths": [1.0], "editors": [MinimalHarmEditor()], "max_drop": 1.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bright")
    save_all(root)
    return root


@pytest.fixture
def interrupted(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a study that was ended while it tested its eleventh rule of 18."""
    theirs, calls = Workbench.test, []

    def ends(self, lot):
        calls.append(lot)
        if len(calls) == 11:
            raise KeyboardInterrupt
        return theirs(self, lot)

    with monkeypatch.context() as patch:
        patch.setattr(Workbench, "test", ends)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run(root, tmp_path / "interrupted", **SETTINGS)
    return tmp_path / "interrupted"


def test_it_goes_on_with_what_is_missing(
    root: Path, tmp_path: Path, interrupted: Path, monkeypatch: pytest.MonkeyPatch
):
    assert len(json.loads((interrupted / KEPT).read_text())["trials"]) == 10
    whole = run(root, tmp_path / "whole", **SETTINGS)
    theirs, tested = Workbench.test, []
    monkeypatch.setattr(Workbench, "test", lambda self, lot: tested.append(lot) or theirs(self, lot))
    resumed = run(root, tmp_path / "resumed", resume=str(interrupted), **SETTINGS)
    assert len(tested) == 18 - 10
    assert whole.outcome == resumed.outcome
    states = [json.loads((tmp_path / name / KEPT).read_text()) for name in ("whole", "resumed")]
    assert states[0] == states[1]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"seed": 1}, "of another study, with"),
        ({"strengths": [2.0]}, r"with strengths \[1.0\] in place of \[2.0\]"),
        ({"keep_labels": False}, "with keep_labels True in place of False"),
        ({"editors": []}, "with editors"),
    ],
)
def test_rules_of_another_study_are_refused(
    settings: dict, sentence: str, root: Path, tmp_path: Path, interrupted: Path
):
    with pytest.raises(UserError, match=f"few_shot.resume: .*{sentence}"):
        run(root, tmp_path / "other", resume=str(interrupted), **SETTINGS | settings)


def test_other_images_of_the_second_moment_are_another_study(root: Path, tmp_path: Path):
    here = tmp_path / "data"
    shutil.copytree(root, here)
    settings = {"shots": [None], "strengths": [1.0], "moment": replace(MOMENT, split="train")}
    with pytest.warns(UserWarning, match="fewer than the 6 entries of a key"):
        run(here, tmp_path / "whole", **settings)
    (here / "train" / "grey" / "0.png").write_bytes((here / "train" / "grey" / "1.png").read_bytes())
    with pytest.raises(UserError, match=r"with moment\.images '\w+' in place of '\w+'"):
        run(here, tmp_path / "other", resume=str(tmp_path / "whole"), **settings)


def test_what_is_no_study(root: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"there are no rules in '.*nowhere', which has no few_shot\.json"):
        run(root, tmp_path / "run", resume=str(tmp_path / "nowhere"), **SETTINGS)


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: "{",
        lambda state: json.dumps([]),
        lambda state: json.dumps({"trials": state["trials"]}),
        lambda state: json.dumps({**state, "trials": [{**state["trials"][0], "broken": -1}]}),
        lambda state: json.dumps({**state, "trials": [{**state["trials"][0], "tested": [3, 4, 0]}]}),
        lambda state: json.dumps({**state, "trials": [{**state["trials"][0], "strength": float("nan")}]}),
        lambda state: json.dumps({**state, "trials": [{"way": "rewriting 2"}]}),
    ],
)
def test_a_damaged_file_is_refused(damage, root: Path, tmp_path: Path, interrupted: Path):
    (interrupted / KEPT).write_text(damage(json.loads((interrupted / KEPT).read_text())))
    with pytest.raises(UserError, match=r"few_shot.json' is not what a study has left"):
        run(root, tmp_path / "run", resume=str(interrupted), **SETTINGS)
