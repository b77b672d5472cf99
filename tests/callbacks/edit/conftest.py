"""The trained network and the edits of it that tests share."""

import contextlib
import io
from pathlib import Path
from typing import NamedTuple

import pytest

from editable.cli import main
from tests.callbacks.edit.commands import CONFIG, LENIENT, QUIET, digits, network, predictions, run


class Edited(NamedTuple):
    """What an edit of one test image has left.

    Attributes:
        asked: The label asked for.
        here: The current folder of the run.
        folder: The run's folder below it.
        metrics: By name.
        shown: What the terminal showed.
    """

    asked: int
    here: Path
    folder: Path
    metrics: dict[str, float]
    shown: str


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small network, trained for a few epochs."""
    folder = tmp_path_factory.mktemp("trained")
    main(
        [
            "fit",
            f"--config={CONFIG}",
            *QUIET,
            "--model.optimizer.lr=0.01",
            "--trainer.max_epochs=4",
            "--trainer.callbacks+=ModelCheckpoint",
            f"--trainer.callbacks.dirpath={folder}",
            "--trainer.callbacks.filename=trained",
            f"--trainer.default_root_dir={folder}",
            "--trainer.logger=false",
            "--evaluation.num_edits=0",
        ]
    )
    return folder / "trained.ckpt"


@pytest.fixture(scope="package")
def checkpoint_bytes(trained: Path) -> bytes:
    """The checkpoint's bytes before any edit."""
    return trained.read_bytes()


def edited(trained: Path, here: Path, image: int, shift: int) -> Edited:
    """Ask for the label that lies so many behind the predicted one."""
    label = int((predictions(network(trained), digits()[0])[image] + shift) % 10)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as shown:
        patch.chdir(here)
        folder, metrics = run("edit", trained, f"--edit.images={image}", f"--edit.labels={label}", LENIENT)
    return Edited(label, here, folder, metrics, shown.getvalue())


@pytest.fixture(scope="package")
def edited_11(trained: Path, checkpoint_bytes: bytes, tmp_path_factory: pytest.TempPathFactory) -> Edited:
    """An edit of test image 11, which is kept."""
    return edited(trained, tmp_path_factory.mktemp("edited_11"), 11, 1)


@pytest.fixture(scope="package")
def edited_3(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Edited:
    """An edit of test image 3, which is kept."""
    return edited(trained, tmp_path_factory.mktemp("edited_3"), 3, 5)
