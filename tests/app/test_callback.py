"""``app`` on the command line: from start to signal, found again by the next start, and mistakes in one sentence."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import yaml
from safetensors.torch import save_file

from editable.app import App
from editable.callbacks import DrawdownEvaluation
from editable.cli import main
from editable.editing.patches.correction_log import read_log
from editable.errors import UserError
from editable.models import fingerprint
from tests.app.small import trained
from tests.mistakes import error_line
from tests.paths import ROOT
from tests.warned import NOT_KEPT

NETWORK = {"class_path": "tests.app.own_network.OwnNetwork"}


def configuration(**sections: Any) -> dict[str, Any]:
    return {
        "model": {
            "class_path": "editable.tasks.ClassificationTask",
            "init_args": {"network": NETWORK, "weights": "weights.safetensors"},
        },
        "data": {"class_path": "editable.data.DigitsDataModule"},
        "evaluation": {
            "num_edits": 0,
            "editor": {"class_path": "editable.editing.MinimalHarmEditor"},
            "editable_layers": ["5"],
        },
        "trainer": {
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": {
                "class_path": "lightning.pytorch.loggers.CSVLogger",
                "init_args": {"save_dir": "runs", "name": "run"},
            },
        },
        "app": {"port": 0, "num_images": 90},
        **sections,
    }


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_file(dict(trained().state_dict()), "weights.safetensors")
    Path("config.yaml").write_text(yaml.safe_dump(configuration()))
    return tmp_path


@contextmanager
def started(*options: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """Start the command; yield its process and the address of the page."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "editable", "app", "--config", "config.yaml", *options]
    log = Path("out.txt")
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        end = monotonic() + 120
        while not (found := re.search(r"The page is at (\S+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert monotonic() < end, log.read_text()
            sleep(0.1)
        yield process, found[1]
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def ask(address: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
    port = int(re.search(r":(\d+)/", address)[1])  # type: ignore[index]
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    told = json.loads(answer.read())
    assert answer.status == 200, told
    return told


def finished(address: str, job: str) -> dict[str, Any]:
    while (told := ask(address, "GET", f"/api/job?job={job}"))["state"] in ("waiting", "running"):
        sleep(0.05)
    assert told["state"] == "done", told
    return told


@pytest.mark.slow
def test_from_start_to_signal_and_again():
    with started() as (process, address):
        image = ask(address, "GET", "/api/shelf?which=mistakes")["images"][0]
        asked = ask(address, "POST", "/api/ask", {"image": image["key"], "label": image["label"]})
        finished(address, asked["job"])
        finished(address, ask(address, "POST", "/api/keep", {"job": asked["job"]})["job"])
        after = ask(address, "GET", f"/api/look?image={image['key']}")["top"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    assert "interrupted by SIGTERM: go on with the same command" in Path("out.txt").read_text()
    base = fingerprint(trained().state_dict())
    (entry,) = read_log(Path("runs", "corrections", f"{base}.jsonl"))
    assert (entry["command"], entry["network"], entry["before"], entry["by"]) == (
        "app",
        base,
        base,
        "MinimalHarmEditor",
    )
    assert entry["labels"] == [image["label"]]
    assert Path(entry["patch"]).is_file()
    with started() as (process, address):
        assert len(ask(address, "GET", "/api/state")["corrections"]) == 1
        assert ask(address, "GET", f"/api/look?image={image['key']}")["top"] == after
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert "Traceback" not in Path("out.txt").read_text()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--app.port=70000"], "port must be at most 65535, got 70000"),
        (["--app.port=-1"], "port must be at least 0, got -1"),
        (["--app.port=web"], "web"),
        (["--app.num_images=5"], "num_images must be at least 6, got 5"),
        (["--app.max_upload_megabytes=0"], "max_upload_megabytes must be positive, got 0"),
        (["--app.max_upload_megabytes=.nan"], "must be finite"),
        (["--app.max_pixels=0"], "max_pixels must be at least 1, got 0"),
        (["--app.token=short"], "app.token must be 8 or more letters, digits and . _ ~ -, got 'short'"),
        (["--app.host=no such machine"], "no such machine"),
        (["--app.host=256.1.1.1"], "256.1.1.1"),
        (["--app.layer=nothing"], "nothing"),
        (["--app.layer=5"], "app.layer is '5', a linear layer"),
        (["--app.folder=weights.safetensors/a"], "app.folder: 'weights.safetensors/a' cannot be made or written to"),
        (["--app.prot=1"], "did you mean"),
        (["--evaluation.editable_layers=[99]"], "99"),
        (["--trainer.inference_mode=true"], "the trainer is in inference mode"),
        (["--trainer.precision=bf16-true"], "app looks at a network in float32"),
        (["--patches=nothing.safetensors"], "nothing.safetensors"),
    ],
)
def test_mistakes_end_in_one_sentence(options: list[str], says: str, capsys: pytest.CaptureFixture):
    assert says in error_line(["app", "--config", "config.yaml", *options], capsys)
    assert not Path("runs", "corrections").exists() or not list(Path("runs", "corrections").rglob("*.json"))


@pytest.mark.filterwarnings(NOT_KEPT)
@pytest.mark.parametrize("option", ["--trainer.logger=false", "--trainer.fast_dev_run=true"])
def test_corrections_that_would_go_are_refused(option: str, capsys: pytest.CaptureFixture):
    assert "give app.folder" in error_line(["app", "--config", "config.yaml", option], capsys)


def test_a_trainer_without_the_callback_says_so(make_trainer: Any):
    from editable.trainer import EditableTrainer

    trainer = EditableTrainer(accelerator="cpu", logger=False, default_root_dir=".", enable_progress_bar=False)
    with pytest.raises(UserError, match="has no App among its callbacks"):
        trainer.app(None)  # type: ignore[arg-type]


def test_it_stands_in_the_help(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as ended:
        main(["app", "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for name in ("host", "port", "token", "num_images", "max_upload_megabytes", "max_pixels", "folder"):
        assert f"--app.{name}" in shown
    assert App(DrawdownEvaluation(num_edits=0)).host == "127.0.0.1"
