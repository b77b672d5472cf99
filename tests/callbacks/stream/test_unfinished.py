"""A stream that was interrupted goes on from its last correction, bit for bit, and only where it is the same one."""

import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from editable.callbacks.stream import unfinished
from editable.data import TableEdits
from editable.editing import MinimalHarmEditor, StreamEvaluator
from editable.errors import UserError
from tests.callbacks.stream.campaign import killed_and_resumed
from tests.callbacks.stream.streams import data, figures, fitted, interrupted, make_stream, run

STATE = "stream.safetensors"
SETTINGS = {"edited_views": 1}


def assert_same_run(folder: Path, metrics: dict[str, float], whole) -> None:
    """Figures, weights and tables are those of the uninterrupted stream, but for seconds."""
    assert figures(metrics) == figures(whole.metrics)
    assert (folder / "corrected.safetensors").read_bytes() == (whole.folder / "corrected.safetensors").read_bytes()
    for name in ("stream.csv", "corrections.csv"):
        ours, theirs = (
            [line.split(",") for line in (some / name).read_text().splitlines()] for some in (folder, whole.folder)
        )
        place = ours[0].index("seconds")
        assert [row[:place] + row[place + 1 :] for row in ours] == [row[:place] + row[place + 1 :] for row in theirs]


@pytest.mark.parametrize("number", [1, 7])
def test_resumed_is_as_uninterrupted(whole, number, tmp_path, monkeypatch):
    stopped = interrupted(make_stream(whole.kind, SETTINGS), tmp_path / "killed", number, monkeypatch)
    assert stopped.advice == f"--stream.resume {tmp_path / 'killed'}"
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {STATE}
    calls, correct = [], StreamEvaluator.correct
    monkeypatch.setattr(StreamEvaluator, "correct", lambda *args: calls.append(args[1]) or correct(*args))
    metrics = run(make_stream(whole.kind, SETTINGS, resume=str(tmp_path / "killed")), tmp_path / "resumed")
    assert calls == list(range(number, 12))
    assert_same_run(tmp_path / "resumed", metrics, whole)
    assert not (tmp_path / "resumed" / STATE).exists()  # it is done
    assert (tmp_path / "killed" / STATE).is_file()


def test_a_resumed_one_can_be_interrupted_again(minimal, tmp_path, monkeypatch):
    def stream(**settings):
        return make_stream("minimal harm", SETTINGS, **settings)

    interrupted(stream(), tmp_path / "0", 3, monkeypatch)
    interrupted(stream(resume=str(tmp_path / "0")), tmp_path / "1", 4, monkeypatch)
    metrics = run(stream(resume=str(tmp_path / "1")), tmp_path / "2")
    assert_same_run(tmp_path / "2", metrics, minimal)


def test_together_goes_on_from_its_last_moment(tmp_path, monkeypatch):
    whole = run(make_stream(protocol="together"), tmp_path / "whole")
    interrupted(make_stream(protocol="together"), tmp_path / "killed", 2, monkeypatch)
    metrics = run(make_stream(protocol="together", resume=str(tmp_path / "killed")), tmp_path / "resumed")
    assert figures(metrics) == figures(whole)
    ours, theirs = (load_file(tmp_path / name / "corrected.safetensors") for name in ("resumed", "whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_is_done_is_written_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr(unfinished, "SECONDS_BETWEEN_WRITES", 0)
    written = []
    remove = unfinished.UnfinishedStream.remove
    monkeypatch.setattr(
        unfinished.UnfinishedStream,
        "remove",
        lambda self: written.append(load_file(self._path)["success"]) or remove(self),
    )
    run(make_stream(num_edits=3), tmp_path, reported=False)
    assert written[0].tolist() == [True, True, True]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    interrupted(make_stream(), folder, 3, pytest.MonkeyPatch())
    return folder


DIFFERENT = {
    "protocol": ({"protocol": "together"}, {}, {}),
    "weights": ({}, {}, {"network": 1}),
    "images": ({}, {}, {"module": {"mean": [0.31]}}),
    "references": ({"references": "rest"}, {}, {}),
    "edits": ({"num_edits": 11}, {}, {}),
    "judged": ({"halves": "random"}, {}, {}),
    "editor": ({}, {"editor": MinimalHarmEditor(num_references=100, margin=0.2)}, {}),
    "editable_layers": ({}, {"editable_layers": ["3.weight"]}, {}),
    "generality_seed": ({}, {"generality_seed": 1}, {}),
    "generality_augmentation": ({}, {}, {"module": {"augmentation": "shift"}}),
    "generality_views": ({}, {"generality_views": 4}, {}),
    "edited_views": ({}, {"edited_views": 2}, {}),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_another_stream_cannot_be_resumed(killed, tmp_path, name):
    settings, evaluation, changes = DIFFERENT[name]
    stream = make_stream(evaluation=evaluation, resume=str(killed), **settings)
    with pytest.raises(UserError, match=r"^stream\.resume: .* was another one, with .* in place of") as error:
        run(
            stream,
            tmp_path,
            fitted(ridge=0.011) if "network" in changes else None,  # the same predictions, nearly
            data(**changes.get("module", {})),
            reported=False,
        )
    assert "\n" not in str(error.value)
    if name not in ("images", "judged"):  # of which something else depends
        assert f"with {name} " in str(error.value)


def test_another_seed_is_another_stream(killed, tmp_path):
    with pytest.raises(UserError, match="was another one, with seed 0 in place of 1"):
        run(make_stream(seed=1, resume=str(killed)), tmp_path, reported=False)


def test_another_seed_draws_other_changes_of_what_a_table_says(tmp_path, monkeypatch):
    (tmp_path / "edits.csv").write_text("image,label\n0,1\n2,3\n4,5\n")
    settings = {"edits": TableEdits(str(tmp_path / "edits.csv")), "num_edits": None}
    interrupted(make_stream(**settings), tmp_path / "killed", 2, monkeypatch)
    with pytest.raises(UserError, match="was another one, with seed 0 in place of 1"):
        run(make_stream(seed=1, resume=str(tmp_path / "killed"), **settings), tmp_path / "run", reported=False)


def spoil(path: Path, how: str) -> None:
    """Damage what a stream has left."""
    content = path.read_bytes()
    if how in ("empty", "half", "text"):
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "text": b"no tensors"}[how])
        return
    with safe_open(path, "pt") as file:
        described = file.metadata()
    tensors = load_file(path)
    if how == "no points":
        del described["points"]
    elif how == "odd points":
        described["points"] = json.dumps([{"num_edits": "three"}])
    elif how == "odd identity":
        described["identity"] = "[1, 2"
    elif how == "fewer seconds":
        tensors["seconds"] = tensors["seconds"][:1].clone()
    elif how == "no success":
        del tensors["success"]
    elif how == "numbers for truth":
        tensors["success"] = tensors["success"].double()
    save_file(tensors, path, described if how != "no metadata" else None)


@pytest.mark.parametrize(
    "how",
    [
        "empty",
        "half",
        "text",
        "no metadata",
        "no points",
        "odd points",
        "odd identity",
        "fewer seconds",
        "no success",
        "numbers for truth",
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(killed, how, tmp_path):
    (tmp_path / "spoilt").mkdir()
    path = tmp_path / "spoilt" / STATE
    path.write_bytes((killed / STATE).read_bytes())
    spoil(path, how)
    with pytest.raises(UserError, match=r"^stream\.resume: '.*' is not what a stream has left") as error:
        run(make_stream(resume=str(path.parent)), tmp_path / "run", reported=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_command_goes_on(signum, tmp_path):
    """At a random moment, in a process of its own; ``tests/callbacks/stream/campaign.py`` does it twenty times."""
    assert killed_and_resumed(tmp_path, signum, seed=1) == []
