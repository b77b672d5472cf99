"""Two and four processes find what one does, and look at no image twice."""

import csv
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from editable.models import cifar_resnet
from tests.callbacks import several_commands
from tests.callbacks.several_commands import COMMANDS, NAMES, NETWORK, prepare, run_commands
from tests.callbacks.small_commands import CONCEPT, make_images, settings
from tests.mistakes import error_line
from tests.paths import ROOT
from tests.process_groups import run_group
from tests.warned import NO_LPIPS

COMMANDS_OF = {2: list(COMMANDS), 4: ["scan", "edit"]}
"""By the number of processes: a stream of corrections is made by one alone."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(NO_LPIPS),
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


@pytest.fixture(scope="module")
def by_number(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """What one process leaves of all commands, and two and four; a folder for each command."""
    folders = {number: tmp_path_factory.mktemp(f"by_{number}") for number in (1, *COMMANDS_OF)}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(data)
        for folder in folders.values():
            prepare(folder, data)
        run_commands(folders[1], 1, list(COMMANDS))
    for number, commands in COMMANDS_OF.items():
        words = [sys.executable, "-m", several_commands.__name__, str(folders[number]), str(number), *commands]
        run_group(words, ROOT, seconds=300)
    return folders


def only_run(folder: Path) -> Path:
    (only,) = (folder / "runs" / "run").iterdir()  # one folder for all processes
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
    ("command", "number"), [(command, number) for number, commands in COMMANDS_OF.items() for command in commands]
)
def test_several_processes_find_what_one_does(by_number, command, number):
    expected, tables = left(only_run(by_number[1] / command))
    found, others = left(only_run(by_number[number] / command))
    assert expected or tables
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    assert others.keys() == tables.keys()
    for name, lines in tables.items():
        assert len(others[name]) == len(lines), name  # and so no image twice
        for line, other in zip(lines, others[name], strict=True):
            assert [*map(number_of, other)] == [*map(plain, line)], name


def test_two_processes_make_the_images_that_one_does(by_number):
    one, two = (by_number[number] / "manipulate" / "made" for number in (1, 2))
    made = sorted(path.relative_to(one) for path in one.rglob("*.png"))
    assert made
    assert sorted(path.relative_to(two) for path in two.rglob("*.png")) == made
    for path in made:
        assert (one / path).read_bytes() == (two / path).read_bytes(), path


def test_processes_that_take_their_outcome_with_them_are_refused(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(data)
    network = {"class_path": "editable.models.cifar_resnet", "init_args": {**NETWORK}}
    content = settings("a", network, "data/weights.safetensors", scan={"concept": CONCEPT})
    Path("config.json").write_text(json.dumps(content))
    words = ["scan", "--config=config.json", "--scan.target=a", "--trainer.devices=2", "--trainer.strategy=ddp_fork"]
    assert "scan leaves its outcome in the process that computes it" in error_line(words, capsys)
