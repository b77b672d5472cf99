"""Interrupted commands as a user meets them: one sentence that says where to go on, and the status of the signal."""

import json
import os
import signal
from inspect import signature
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from editable.callbacks.search.unfinished import UnfinishedSearch
from editable.cli import main
from editable.editing import EditEvaluator
from editable.errors import Interrupted
from editable.tasks import EditableTrainingTask
from editable.trainer import SUBCOMMANDS
from tests.test_cli import DIGITS, SMALL_DIGITS, last_run
from tests.warned import NOT_KEPT

pytestmark = pytest.mark.filterwarnings(NOT_KEPT)
COMMAND = [f"--config={DIGITS}", *SMALL_DIGITS]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def stopped(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int | str | None, str]:
    """Run a command that is interrupted; return its status and the last line that it prints."""
    with pytest.raises(SystemExit) as exit_status:
        main([*arguments])
    return exit_status.value.code, capsys.readouterr().err.strip().splitlines()[-1]


def raise_behind(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, signum: int, calls: int) -> None:
    """Let a signal come when a function has been called so many times."""
    function, seen = getattr(owner, name), []

    def raising(*args, **kwargs):
        if len(seen) == calls:
            monkeypatch.setattr(owner, name, function)
            signal.raise_signal(signum)
        seen.append(1)
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, staticmethod(raising) if owner is UnfinishedSearch else raising)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_fit(signum, status, monkeypatch, capsys):
    raise_behind(monkeypatch, EditableTrainingTask, "training_step", signum, 1)
    found, sentence = stopped(capsys, "fit", *COMMAND, "--trainer.max_epochs=2")
    path = last_run("digits/editable") / "checkpoints" / "last.ckpt"
    assert found == status
    assert sentence == f"interrupted by {signal.Signals(signum).name}: go on with --ckpt_path {path}"
    main(["fit", *COMMAND, "--trainer.max_epochs=2", f"--ckpt_path={path}"])
    resumed = json.loads((last_run("digits/editable") / "metrics.json").read_text())
    main(["fit", *COMMAND, "--trainer.max_epochs=2"])
    whole = json.loads((last_run("digits/editable") / "metrics.json").read_text())
    # On a device two fits from the same start differ in their last digit, resumed or not: gradients are added up in
    # another thread, in no fixed order.
    assert resumed == (pytest.approx(whole, rel=1e-6) if torch.cuda.is_available() else whole)


def test_test(monkeypatch, capsys):
    settings = ["--evaluation.edits_at_once=1", "--evaluation.num_edits=3"]
    raise_behind(monkeypatch, EditEvaluator, "_make", signal.SIGTERM, 2)
    status, sentence = stopped(capsys, "test", *COMMAND, *settings)
    folder = last_run("digits/editable")
    assert (status, sentence) == (143, f"interrupted by SIGTERM: go on with --evaluation.resume {folder}")
    main(["test", *COMMAND, *settings, f"--evaluation.resume={folder}"])
    resumed = json.loads((last_run("digits/editable") / "metrics.json").read_text())
    main(["test", *COMMAND, *settings])
    assert json.loads((last_run("digits/editable") / "metrics.json").read_text()) == resumed


def test_search(monkeypatch, capsys):
    settings = ["--search.split=val", "--search.num_edits=2", "--search.per_decade=1", "--trainer.limit_val_batches=1"]
    raise_behind(monkeypatch, EditEvaluator, "score", signal.SIGINT, 2)
    status, sentence = stopped(capsys, "search", *COMMAND, *settings)
    folder = last_run("digits/editable")
    assert (status, sentence) == (130, f"interrupted by SIGINT: go on with --search.resume {folder}")
    assert len(json.loads((folder / "search.json").read_text())["outcomes"]) == 2


@pytest.mark.parametrize(
    "study", [study for study in SUBCOMMANDS.values() if study.kept], ids=lambda study: study.command
)
def test_what_keeps_its_work_can_be_gone_on_with(study):
    assert "resume" in signature(study).parameters
    interrupted, trainer = Interrupted(signal.SIGTERM), Trainer(logger=False, default_root_dir="here")
    Path("here").mkdir()
    study.on_exception(study.__new__(study), trainer, None, interrupted)
    assert interrupted.advice == ""
    (Path("here") / study.kept).touch()
    study.on_exception(study.__new__(study), trainer, None, interrupted)
    assert interrupted.advice == f"--{study.command}.resume here"


def test_long_commands_keep_their_work():
    assert {name for name, study in SUBCOMMANDS.items() if study.kept} >= {
        "few_shot",
        "judge",
        "rewrite",
        "scan",
        "search",
    }


def test_before_anything_is_done(monkeypatch, capsys):
    raise_behind(monkeypatch, EditEvaluator, "measure_base", signal.SIGTERM, 0)
    status, sentence = stopped(capsys, "test", *COMMAND)
    assert (status, sentence) == (143, "interrupted by SIGTERM: there is nothing to go on from")


@pytest.mark.parametrize("option", ["--trainer.logger=false", "--trainer.fast_dev_run=true"])
def test_nothing_is_written_where_there_is_no_place(option, capsys):
    with pytest.warns(UserWarning, match=r"are not kept; give trainer\.default_root_dir"):
        main(["fit", *COMMAND, option])
    assert os.listdir() == []
    main(["fit", *COMMAND, "--trainer.logger=false", "--trainer.default_root_dir=here"])
    assert os.listdir() == ["here"]
    assert (Path("here") / "checkpoints" / "last.ckpt").is_file()


def test_an_edit_that_is_only_tried_leaves_another_s_patch(capsys):
    Path("edit.safetensors").write_text("kept")
    main(["edit", *COMMAND, "--edit.images=[3]", "--edit.labels=[1]", "--trainer.fast_dev_run=true"])
    assert os.listdir() == ["edit.safetensors"]
    assert Path("edit.safetensors").read_text() == "kept"
