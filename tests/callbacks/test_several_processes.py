"""Two and four processes find what one does, and look at no image twice."""

import csv
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from editable.models import cifar_resnet
from tests.callbacks.small_commands import CONCEPT, EDITOR, make_images, rule, run, settings
from tests.mistakes import error_line
from tests.paths import ROOT
from tests.process_groups import run_group

NAMES = ["a", "b", "c"]
NETWORK: dict[str, Any] = {"layers": [1, 1, 1, 1], "num_classes": 3, "width": 4}
EVALUATION = {"num_edits": 0, "editor": EDITOR, "editable_layers": ["layer4"]}
COMMANDS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "predict": ({}, ["--trainer.precision=64-true"]),
    "scan": ({"scan": {"concept": CONCEPT, "min_found": 1}}, ["--scan.target=a"]),
    "rewrite": ({"rewrite": {"layers": ["layer3.0.conv1"], "max_drop": 1.0}}, []),
    "edit": (
        {"evaluation": EVALUATION},
        ["--edit.images=data/images/test/a/0.png", "--edit.labels=b", "--edit.max_drawdown=1"],
    ),
}
"""Each with its section of the configuration, and its options."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed"),
    pytest.mark.skipif(not hasattr(os, "killpg"), reason="ends groups of processes"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_images(root, NAMES)
    torch.manual_seed(0)
    save_file(cifar_resnet(**NETWORK).state_dict(), root / "weights.safetensors")
    return root


def by_one(command: str) -> Path:
    sections, options = COMMANDS[command]
    if command == "rewrite":
        sections = {"rewrite": {**sections["rewrite"], "rule": rule(*NAMES)}}
    network = {"class_path": "editable.models.cifar_resnet", "init_args": {**NETWORK}}
    return run(command, settings("a", network, "data/weights.safetensors", **sections), *options).resolve()


def by_several(command: str, number: int, folder: Path) -> Path:
    """Run in a group of processes of its own, which is ended where it hangs."""
    several = [f"--trainer.devices={number}", "--trainer.strategy=ddp"]
    words = [sys.executable, str(ROOT / "train.py"), command, "--config=config.yaml", *COMMANDS[command][1], *several]
    run_group(words, folder, seconds=300)
    (only,) = (folder / "runs" / "run").iterdir()  # one folder for all
    return only


def left(folder: Path) -> tuple[dict[str, float], dict[str, list[list[Any]]]]:
    """Return a run's metrics and the rows of its tables, but times; tables of a process each are put together."""
    tables: dict[str, list[list[Any]]] = {}
    for path in sorted(folder.glob("*.csv")):
        if path.name != "metrics.csv":
            head, *rows = csv.reader(path.open(newline=""))
            kept = [column for column, name in enumerate(head) if "seconds" not in name]
            name = re.sub(r"-\d+\.csv$", ".csv", path.name)
            tables[name] = sorted(tables.get(name, []) + [[row[column] for column in kept] for row in rows])
    metrics = folder / "metrics.json"
    figures = json.loads(metrics.read_text()) if metrics.is_file() else {}
    return {name: value for name, value in figures.items() if "seconds" not in name}, tables


def number_of(cell: str) -> Any:
    """Return a cell as a number within rounding, or as it is."""
    value = plain(cell)
    return pytest.approx(value, rel=1e-5, abs=1e-6, nan_ok=True) if isinstance(value, float) else value


def plain(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


@pytest.mark.parametrize(
    ("command", "number"), [*((command, 2) for command in COMMANDS), ("scan", 4)], ids=lambda value: str(value)
)
def test_several_processes_find_what_one_does(data, tmp_path, monkeypatch, command, number):
    one, several = tmp_path / "one", tmp_path / "several"
    for folder in (one, several):
        folder.mkdir()
        (folder / "data").symlink_to(data)
    monkeypatch.chdir(one)
    expected, tables = left(by_one(command))
    for path in one.glob("*.*"):
        shutil.copy(path, several)
    found, others = left(by_several(command, number, several))
    assert expected or tables
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    assert others.keys() == tables.keys()
    for name, lines in tables.items():
        assert len(others[name]) == len(lines), name  # and so no image twice
        for line, other in zip(lines, others[name], strict=True):
            assert [*map(number_of, other)] == [*map(plain, line)], name


def test_processes_that_take_their_outcome_with_them_are_refused(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(data)
    network = {"class_path": "editable.models.cifar_resnet", "init_args": {**NETWORK}}
    content = settings("a", network, "data/weights.safetensors", scan={"concept": CONCEPT})
    Path("config.json").write_text(json.dumps(content))
    words = ["scan", "--config=config.json", "--scan.target=a", "--trainer.devices=2", "--trainer.strategy=ddp_fork"]
    assert "scan leaves its outcome in the process that computes it" in error_line(words, capsys)
