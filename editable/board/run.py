"""One run of ``train.py`` in a process of its own, which goes on where it was interrupted and is made once."""

import csv
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from editable.atomic import write_atomically
from editable.callbacks.drawdown_evaluation.unfinished import is_kept
from editable.callbacks.stream.unfinished import STATE
from editable.text_files import read_json

__all__ = ["LAST", "FailedRun", "FinishedRun", "KilledRun", "run"]

MAIN = "from editable.cli import main; main()"
PACKAGE = Path(__file__).parents[2]
LAST = "checkpoints/last.ckpt"
SIGNALLED = 128
"""To which a process that ends by itself at a signal adds its number."""
PATIENCE = 60
"""Seconds that an interrupted run has to keep what it has done."""


class FailedRun(Exception):
    """A run that has ended without an outcome; the message is the reason that it gave."""


class KilledRun(FailedRun):
    """A run that a signal has ended, such as where memory has run out, which tells nothing of what was asked."""


@dataclass(frozen=True)
class FinishedRun:
    """What a run has left.

    Attributes:
        metrics: Its ``metrics.json``.
        points: The lines of its ``stream.csv``, if it has one.
        seconds: That it took, the start of the process included; of one that was gone on with, since then.
        folder: Of the run.
    """

    metrics: dict[str, float]
    points: list[dict[str, float | None]]
    seconds: float
    folder: str = ""


def run(command: str, config: Mapping[str, Any], folder: str | Path, version: str) -> FinishedRun:
    """Make a run, unless it has been made, or go on with it, if it was interrupted.

    Args:
        command: Subcommand of ``train.py``.
        config: Its configuration; logger and output are added.
        folder: Below which each run has a folder of its own, called by what it depends on.
        version: Of code and weights: a run of another one is not gone on with.

    Raises:
        FailedRun: If it has failed, a :class:`KilledRun` if a signal has ended it.
    """
    text = json.dumps([command, config, version], sort_keys=True)
    place = Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:16]
    finished = place / "finished.json"
    if not finished.is_file():
        kept = _kept(command, place)
        try:
            outcome = _run(command, config, place, kept)
        except FailedRun as error:
            if not kept or isinstance(error, KilledRun):
                raise
            outcome = _run(command, config, place, [])  # what was kept is of no use any more
        with write_atomically(finished) as temporary:
            temporary.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    return FinishedRun(**read_json(finished))


def _run(command: str, config: Mapping[str, Any], place: Path, kept: list[str]) -> FinishedRun:
    logger = {"save_dir": str(place), "name": "runs"}
    trainer = {
        "logger": {"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": logger},
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    path, output = place / "config.yaml", place / "output.txt"
    with write_atomically(path) as temporary:
        whole = {**config, "trainer": {**(config.get("trainer") or {}), **trainer}}
        temporary.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    paths = [str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    start = time.perf_counter()
    with output.open("w", encoding="utf-8") as file:
        arguments = [sys.executable, "-c", MAIN, command, "--config", str(path), *kept]
        child = subprocess.Popen(arguments, stdout=file, stderr=subprocess.STDOUT, env=environment)
        try:
            status = child.wait()
        except BaseException:
            _end(child)
            raise
    if status < 0 or status > SIGNALLED:
        raise KilledRun(f"a signal has ended a run: go on with the same command ({_reason(output, status)})")
    if status:
        raise FailedRun(_reason(output, status))
    left = _folders(place)[-1]
    table = left / "stream.csv"
    rows = _rows(table) if table.is_file() else []
    return FinishedRun(read_json(left / "metrics.json"), rows, time.perf_counter() - start, str(left))


def _end(child: subprocess.Popen) -> None:
    """End a run as a signal does: it keeps what it has done."""
    child.terminate()
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _kept(command: str, place: Path) -> list[str]:
    """Return the option by which an interrupted run is gone on with, if there is one."""
    for folder in reversed(_folders(place)):
        if command == "stream" and (folder / STATE).is_file():
            return ["--stream.resume", str(folder)]
        if command == "fit" and (folder / LAST).is_file():
            return ["--ckpt_path", str(folder / LAST)]
        if command == "test" and is_kept(folder):
            return ["--evaluation.resume", str(folder)]
    return []


def _folders(place: Path) -> list[Path]:
    return sorted((place / "runs").glob("version_*"), key=lambda folder: int(folder.name.removeprefix("version_")))


def _reason(output: Path, status: int) -> str:
    """Return the sentence in which a run has said what is wrong, or the last that it has said."""
    lines = [line.strip() for line in output.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    sentences = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    said = sentences or lines or ["it has said nothing"]
    return said[-1] if sentences else f"it has ended with status {status}: {said[-1]}"


def _rows(path: Path) -> list[dict[str, float | None]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{name: float(cell) if cell else None for name, cell in row.items()} for row in csv.DictReader(file)]
    return [{name: None if cell != cell else cell for name, cell in row.items()} for row in rows]
