"""A run's folder is its own, is there before anything is computed, and goes where nothing has come of the run."""

import errno
import gc
import os
import tempfile
from pathlib import Path

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from editable.callbacks.run.context import run_folder
from editable.errors import UserError
from editable.starting.folder import new_run_folder

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}


def trainer_in(folder: Path, **settings) -> Trainer:
    return Trainer(logger=CSVLogger(folder / "runs", "some/name"), default_root_dir=folder, **QUIET, **settings)


def ends(trainer: Trainer, files: dict[str, str], error: Exception) -> None:
    def run() -> None:
        with new_run_folder(trainer):
            for name, text in files.items():
                path = run_folder(trainer) / name
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
            raise error

    with pytest.raises(type(error)):
        run()


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


BEGUN = {"config.yaml": "x", "hparams.yaml": "{}", "events.out.tfevents.1": "x"}
RUN = "runs/some/name/version_0"


@pytest.mark.parametrize(
    ("files", "error", "kept"),
    [
        (BEGUN, UserError("a mistake"), False),
        ({"events.out.tfevents.1": "x"}, RuntimeError("a fault before it began"), False),
        (BEGUN, RuntimeError("a fault"), True),
        ({**BEGUN, "metrics.json": "{}"}, UserError("found at the end"), True),
        ({**BEGUN, "checkpoints/last.ckpt": "x"}, UserError("a mistake"), True),
        ({}, UserError("a mistake"), False),
    ],
)
def test_what_is_left_of_a_run_that_ends_early(files: dict, error: Exception, kept: bool, tmp_path: Path):
    ends(trainer_in(tmp_path), files, error)
    assert left(tmp_path) == (sorted(f"{RUN}/{name}" for name in files) if kept else [])
    assert (tmp_path / "runs").exists() == kept


def test_what_was_there_before_stays(tmp_path: Path):
    (tmp_path / RUN).mkdir(parents=True)
    (tmp_path / RUN / "events.out.tfevents.0").write_text("somebody's")
    trainer = Trainer(logger=CSVLogger(tmp_path / "runs", "some/name", version=0), **QUIET)
    ends(trainer, BEGUN, UserError("a mistake"))
    assert left(tmp_path) == [f"{RUN}/events.out.tfevents.0"]


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json"])
def test_the_folder_of_another_run_is_refused_before_a_logger_writes(name: str, tmp_path: Path):
    (tmp_path / RUN).mkdir(parents=True)
    (tmp_path / RUN / name).write_text("somebody's")
    trainer = Trainer(logger=CSVLogger(tmp_path / "runs", "some/name", version=0), **QUIET)
    message = rf"{name}' is of another run, which would be overwritten"
    with pytest.raises(UserError, match=message), new_run_folder(trainer):
        pass
    assert left(tmp_path) == [f"{RUN}/{name}"]


def test_weights_that_a_finder_puts_aside_go_with_its_mistake(tmp_path: Path):
    (tmp_path / ".lr_find_old.ckpt").write_text("of a run that goes on elsewhere")
    ends(trainer_in(tmp_path), {"../../../../.scale_batch_size_1.ckpt": "x"}, UserError("too large"))
    assert left(tmp_path) == [".lr_find_old.ckpt"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT])
def test_a_folder_that_cannot_be_written_to(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Read-only places bind even the superuser, who runs tests, where the file system says so."""

    def refuse(dir: Path) -> None:
        raise OSError(number, os.strerror(number), f"{dir}/tmp")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    message = f"the run's folder cannot .*{os.strerror(number).lower()}; choose another"
    with pytest.raises(UserError, match=message), new_run_folder(trainer_in(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_checkpoints_is_looked_at_before_training(tmp_path: Path):
    (tmp_path / "file").write_text("somebody's")
    trainer = trainer_in(tmp_path, callbacks=[ModelCheckpoint(tmp_path / "file")])
    message = r"the folder of checkpoints cannot be made or written to, .*file"
    with pytest.raises(UserError, match=message), new_run_folder(trainer):
        pass
    assert left(tmp_path) == ["file"]
    assert not (tmp_path / "runs").exists()


def test_a_fast_dev_run_has_a_folder_that_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    trainer = Trainer(fast_dev_run=True, logger=False, **QUIET)
    with new_run_folder(trainer):
        folder = run_folder(trainer)
        (folder / "edit.safetensors").write_text("x")
        assert run_folder(trainer) == folder
    del trainer
    gc.collect()
    assert not folder.exists()
    assert list(tmp_path.iterdir()) == []
