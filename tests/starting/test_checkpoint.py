"""A word for a checkpoint is the file that it stands for, or a sentence with the folder that was looked in."""

import os
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from editable.errors import UserError
from editable.starting.checkpoint import find_checkpoint, stands_for_a_file

QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}


def trainer_in(folder: Path, *callbacks: ModelCheckpoint) -> Trainer:
    return Trainer(default_root_dir=folder, callbacks=list(callbacks), **QUIET)


def save(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"pytorch-lightning_version": "2.6.0", "state_dict": {}}, path)
    return str(path)


@pytest.mark.parametrize(
    ("path", "stands"),
    [("last", True), ("registry", True), ("Registry:a", True), ("s3://a/b", True), ("a.ckpt", False), ("", False)],
)
def test_words(path: str, stands: bool):
    assert stands_for_a_file(path) == stands


def test_last_is_the_latest_in_the_folders_of_the_callbacks(tmp_path: Path):
    save(tmp_path / "a" / "last.ckpt")
    latest = save(tmp_path / "b" / "last-v1.ckpt")
    os.utime(tmp_path / "a" / "last.ckpt", (1, 1))
    callbacks = [ModelCheckpoint(tmp_path / name, every_n_epochs=n) for n, name in enumerate("ab", 1)]
    assert find_checkpoint("last", trainer_in(tmp_path, *callbacks)) == latest


def test_best_is_what_the_callback_knows(tmp_path: Path):
    callback = ModelCheckpoint(tmp_path)
    callback.best_model_path = save(tmp_path / "best.ckpt")
    assert find_checkpoint("best", trainer_in(tmp_path, callback)) == callback.best_model_path


def test_that_of_a_scheduler_is_in_the_root(tmp_path: Path):
    kept = save(tmp_path / "hpc_ckpt_3.ckpt")
    assert find_checkpoint("hpc", trainer_in(tmp_path)) == kept


@pytest.mark.parametrize("word", ["last", "best", "hpc"])
def test_the_folder_that_was_looked_in_is_named(word: str, tmp_path: Path):
    folder = tmp_path if word == "hpc" else tmp_path / "kept"
    with pytest.raises(UserError, match=rf"ckpt_path is '{word}', but .*'{folder}'.*: give the path of a checkpoint"):
        find_checkpoint(word, trainer_in(tmp_path, ModelCheckpoint(tmp_path / "kept")))


def test_what_is_found_must_be_a_checkpoint(tmp_path: Path):
    (tmp_path / "last.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot read '.*last\.ckpt'"):
        find_checkpoint("last", trainer_in(tmp_path, ModelCheckpoint(tmp_path)))


def test_a_path_is_itself_and_a_registry_needs_its_package(tmp_path: Path):
    assert find_checkpoint("a.ckpt", trainer_in(tmp_path)) == "a.ckpt"
    with pytest.raises(UserError, match="needs the package litmodels"):
        find_checkpoint("registry:a", trainer_in(tmp_path))
