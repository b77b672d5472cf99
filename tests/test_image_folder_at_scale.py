"""An image folder of any size: evaluation never holds all its images, and names the one that is broken."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editable.cli import main

SIZE, FEW, MANY = 224, 20, 200
DECODED = MANY * 3 * SIZE**2 / 2**20
"""MiB of all images as bytes, a quarter of what they take as the network gets them."""

PROGRAM = f"""
import resource
from lightning.pytorch import Trainer
from editable.callbacks import DrawdownEvaluation
from editable.data import ImageFolderDataModule
from editable.editing import GD, Editor
from editable.models import cifar_resnet
from editable.tasks import ClassificationTask

def run(folder):
    data = ImageFolderDataModule(folder, image_size={SIZE}, resize_size={SIZE + 32}, batch_size=10, num_workers=0)
    task = ClassificationTask(cifar_resnet(num_classes=2, width=1, layers=[1, 1, 1, 1]))
    evaluation = DrawdownEvaluation(4, editor=Editor(GD(0.1)), editable_layers=["fc"], image_stride=10)
    trainer = Trainer(accelerator="cpu", inference_mode=False, callbacks=[evaluation], logger=False,
                      enable_checkpointing=False, enable_progress_bar=False)
    trainer.test(task, data)
    trainer.predict(task, data)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux

run("few")  # takes what later runs use again
few = run("few")
print("growth in MiB:", run("many") - few)
"""


def write_folder(root: Path, count: int) -> None:
    """Two classes with ``count`` images in all: the same file under many names."""
    pixels = np.random.RandomState(0).randint(0, 256, (64, 80, 3), dtype=np.uint8)
    for label in "ab":
        folder = root / "test" / label
        folder.mkdir(parents=True)
        Image.fromarray(pixels).resize((320, 256)).save(folder / "0000.jpg")
        for number in range(1, count // 2):
            os.link(folder / "0000.jpg", folder / f"{number:04}.jpg")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of the largest memory use differs between systems")
def test_the_images_are_never_all_in_memory(tmp_path: Path) -> None:
    write_folder(tmp_path / "few", FEW)
    write_folder(tmp_path / "many", MANY)
    # Memory that is freed goes back at once, so that gaps between what is still in use do not count.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    growth = float(result.stdout.rpartition("growth in MiB:")[2])
    assert growth < DECODED / 2


def test_broken_image_found_by_a_worker_ends_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path, 8)
    broken = tmp_path / "test" / "b" / "0002.jpg"
    content = broken.read_bytes()
    broken.unlink()  # else all its other names would be broken too
    broken.write_bytes(content[: len(content) // 2])
    with pytest.raises(SystemExit) as exit_status:
        main(
            [
                *("test", "--data=ImageFolderDataModule", "--data.root=.", "--data.image_size=32"),
                *("--data.batch_size=2", "--data.num_workers=1", "--model=ClassificationTask"),
                *(
                    "--model.network=editable.models.cifar_resnet18",
                    "--model.network.num_classes=2",
                    "--model.network.width=1",
                ),
                *("--evaluation.num_edits=0", "--trainer.enable_progress_bar=false"),
            ]
        )
    assert exit_status.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "b/0002.jpg cannot be read (" in errors[0]
    assert errors[0].endswith("): replace or remove the file.")
