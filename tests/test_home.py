"""Paths below ``~`` that no shell has seen, as in ``--edit.log=~/log``, are below the user's home."""

from pathlib import Path

import pytest
import torch
from torch import nn

from editable.board.command import board
from editable.callbacks import NetworkExport
from editable.command_line.options.patches import options
from editable.editing.patches.correction_log import log_path
from editable.errors import UserError
from editable.models import load_weights
from tests.command_line.parsing import parsed


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(folder))
    return folder


def test_in_every_option_of_a_run(home: Path) -> None:
    options = ["--edit.log=~/log", "--edit.images=[~/a.png, ~b.png, 3]", "--model.weights=~/w.pt", "--patches=~/a.pt"]
    options += ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=~/runs"]
    config = parsed("edit", *options)
    assert config.edit.log == f"{home}/log"
    assert config.edit.images == [f"{home}/a.png", "~b.png", 3]
    assert config.model.init_args.weights == f"{home}/w.pt"
    assert config.patches == [f"{home}/a.pt"]
    assert config.trainer.logger.init_args.save_dir == f"{home}/runs"


def test_in_a_configuration(home: Path) -> None:
    (home / "run.yaml").write_text("edit: {images: [3], log: ~/log}\nevaluation: {resume: ~/run}\n")
    config = parsed("edit", "--config=~/run.yaml")
    assert (config.edit.log, config.evaluation.resume) == (f"{home}/log", f"{home}/run")


def test_of_patches(home: Path) -> None:
    asked = options().parse_args(["drop", "1", "~/a.safetensors", "--weights=~/w.pt", "--out=~/left"])
    assert (asked.files, asked.weights, asked.out) == ([f"{home}/a.safetensors"], f"{home}/w.pt", f"{home}/left")


def test_of_the_board(home: Path) -> None:
    with pytest.raises(UserError, match=f"{home}/nowhere.yaml"):
        board(["--board=~/nowhere.yaml"])


def test_in_python(home: Path) -> None:
    assert log_path("~/log", "abc") == home / "log" / "abc.jsonl"
    assert NetworkExport(file="~/a.safetensors").file == home / "a.safetensors"
    network = nn.Linear(2, 2)
    torch.save(nn.Linear(2, 2).state_dict(), home / "w.pt")
    load_weights(network, "~/w.pt")
    assert network.weight.equal(torch.load(home / "w.pt")["weight"])
