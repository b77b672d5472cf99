"""A checkpoint is whole at every moment, on a file system of its own too."""

import os
import subprocess

import pytest
import torch
from lightning.pytorch.plugins.io import AsyncCheckpointIO

from editable.errors import UserError
from editable.interruptions import WholeCheckpoints
from editable.trainer import EditableTrainer


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB, where it may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.name != "posix" or os.getuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_writes_beside_and_renames(tmp_path, monkeypatch):
    path, seen = tmp_path / "run" / "last.ckpt", []
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda content, where: seen.append(where) or save(content, where))
    files = WholeCheckpoints()
    for number in (1, 2):
        files.save_checkpoint({"number": number}, path)
        assert files.load_checkpoint(path, weights_only=True) == {"number": number}
    assert all(where.parent == path.parent and where != path for where in seen)
    assert os.listdir(path.parent) == ["last.ckpt"]
    files.save_checkpoint({"number": 3}, f"file://{path}")
    assert torch.load(path, weights_only=True) == {"number": 3}


def test_a_full_disk_leaves_the_old_checkpoint(small_disk):
    files, path = WholeCheckpoints(), small_disk / "last.ckpt"
    files.save_checkpoint({"weights": torch.ones(50_000)}, path)
    with pytest.raises(UserError, match=f"^no space is left for '{path}'.*") as error:
        files.save_checkpoint({"weights": torch.ones(500_000)}, path)
    assert "\n" not in str(error.value)
    assert os.listdir(small_disk) == ["last.ckpt"]
    assert torch.equal(files.load_checkpoint(path, weights_only=True)["weights"], torch.ones(50_000))


def test_the_trainer_has_it_unless_another_is_given(tmp_path):
    settings = {"accelerator": "cpu", "logger": False, "default_root_dir": tmp_path}
    assert type(EditableTrainer(**settings).strategy.checkpoint_io) is WholeCheckpoints
    given = AsyncCheckpointIO(WholeCheckpoints())
    assert EditableTrainer(**settings, plugins=[given]).strategy.checkpoint_io is given
