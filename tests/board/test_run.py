"""One run in a process of its own: made once, gone on with, ended with its caller, and its failure told.

``train.py`` is stood in for by a script that takes no time; the command's own test has the real one.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from editable.board import run as runs
from editable.board.run import FailedRun, FinishedRun, KilledRun, run
from editable.callbacks.drawdown_evaluation.unfinished import PATTERN
from editable.errors import Interrupted

SCRIPT = """
import json, os, signal, sys, time, yaml
from pathlib import Path

command, _, path, *rest = sys.argv[1:]
config = yaml.safe_load(Path(path).read_text())
with open("calls.txt", "a") as file:
    print(command, *rest, file=file)
place = Path(config["trainer"]["logger"]["init_args"]["save_dir"], "runs")
folder = place / f"version_{len(list(place.glob('*')))}"
folder.mkdir(parents=True)
what = config.get("what")
if what == "fails":
    print("something else")
    sys.exit("error: the layer 'x' is not there")
if what == "crashes":
    raise RuntimeError("a fault")
if what == "stops" and len(list(place.glob("*"))) == 1 or what == "never":
    (folder / config["state"]).parent.mkdir(exist_ok=True)
    (folder / config["state"]).write_text("")
    os.kill(os.getpid(), signal.SIGKILL)
if what == "spoils" and rest:
    sys.exit("error: what was kept is of another network")
if what == "spoils" and len(list(place.glob("*"))) == 1:
    (folder / "stream.safetensors").write_text("")
    os.kill(os.getpid(), signal.SIGKILL)
if what == "waits":
    Path("waits").write_text(str(os.getpid()))
    time.sleep(60)
(folder / "metrics.json").write_text(json.dumps({"test_error": config["error"]}))
if command == "stream":
    (folder / "stream.csv").write_text("num_edits,error,group_generality\\n1,0.5,\\n2,0.25,nan\\n")
"""


@pytest.fixture(autouse=True)
def _script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "MAIN", SCRIPT)


def calls() -> list[str]:
    return Path("calls.txt").read_text().splitlines()


def test_a_run_is_made_once():
    first = run("stream", {"error": 0.125, "trainer": {"callbacks": []}}, "work", "v1")
    assert first.metrics == {"test_error": 0.125}
    assert first.points == [
        {"num_edits": 1, "error": 0.5, "group_generality": None},
        {"num_edits": 2, "error": 0.25, "group_generality": None},
    ]
    assert first.seconds > 0
    assert run("stream", {"error": 0.125, "trainer": {"callbacks": []}}, "work", "v1") == first
    assert len(calls()) == 1


@pytest.mark.parametrize(("command", "error", "version"), [("test", 1, "v"), ("stream", 2, "v"), ("stream", 1, "w")])
def test_another_run_has_a_folder_of_its_own(command: str, error: float, version: str):
    run("stream", {"error": 1}, "work", "v")
    other = run(command, {"error": error}, "work", version)
    assert isinstance(other, FinishedRun)
    assert other.metrics == {"test_error": error}
    assert len(calls()) == len(list(Path("work").iterdir())) == 2


@pytest.mark.parametrize(
    ("command", "state", "option"),
    [
        ("stream", "stream.safetensors", "--stream.resume"),
        ("test", PATTERN.replace("*", "0"), "--evaluation."),
        ("fit", "checkpoints/last.ckpt", "--ckpt_path"),
    ],
)
def test_an_interrupted_run_is_gone_on_with(command: str, state: str, option: str):
    config: dict[str, Any] = {"error": 0.5, "what": "stops", "state": state}
    with pytest.raises(KilledRun, match=r"a signal .* \(it has ended with status -9: it has said nothing\)"):
        run(command, config, "work", "v")
    assert run(command, config, "work", "v").metrics == {"test_error": 0.5}
    assert calls()[0] == command
    assert calls()[1].startswith(f"{command} {option}")
    assert calls()[1].endswith("version_0/checkpoints/last.ckpt" if command == "fit" else "version_0")


def test_what_was_kept_and_is_of_no_use_is_not_gone_on_with():
    config = {"error": 0.5, "what": "spoils"}
    with pytest.raises(FailedRun):
        run("stream", config, "work", "v")
    assert run("stream", config, "work", "v").metrics == {"test_error": 0.5}
    assert ["resume" in call for call in calls()] == [False, True, False]


@pytest.mark.parametrize(
    ("what", "reason"),
    [("fails", "^the layer 'x' is not there$"), ("crashes", "it has ended with status 1: RuntimeError: a fault")],
)
def test_a_failure_has_the_reason_that_was_given(what: str, reason: str):
    for _ in range(2):  # it is tried again
        with pytest.raises(FailedRun, match=reason):
            run("test", {"what": what}, "work", "v")
    assert len(calls()) == 2


def test_a_run_ends_with_its_caller(monkeypatch: pytest.MonkeyPatch):
    wait = subprocess.Popen.wait

    def interrupted(self: subprocess.Popen, timeout: float | None = None) -> int:
        if timeout is not None:
            return wait(self, timeout)
        while not Path("waits").is_file():
            assert self.poll() is None
        raise Interrupted(15)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(Interrupted):
        run("test", {"what": "waits", "error": 1}, "work", "v")
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("waits").read_text()), 0)
