"""Small runs of `manipulate`: images with black squares, which are found by their colour."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from editable.callbacks import Manipulation, RunReport
from editable.data import ImageFolderDataModule
from editable.rewriting.concepts.concept_finder import ConceptFinder
from editable.rewriting.concepts.concept_replacement import ConceptReplacement
from editable.tasks import ClassificationTask
from tests.quiet_trainer import quiet_trainer

SIZE, COUNT, CLASSES = 10, 6, ("boat", "car", "tram")
WITH_WHEEL = {"boat": (), "car": range(6), "tram": (0, 3, 5)}
"""Images of each class that have a black square of 3 pixels."""


class BlackSquares(ConceptFinder):
    """Finds black pixels."""

    def find(self, images: Tensor, names) -> Tensor:
        return (images.amax(dim=1) == 0).to(images)


def save_images(root: Path) -> None:
    """Write six test images of each class, and a texture."""
    random = np.random.default_rng(0)
    for name in CLASSES:
        for split in ("train", "test"):
            (root / split / name).mkdir(parents=True)
        for number in range(COUNT):
            pixels = random.integers(1, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            if number in WITH_WHEEL[name]:
                pixels[2:5, number : number + 3] = 0
            Image.fromarray(pixels).save(root / "test" / name / f"{number}.png")
    Image.fromarray(random.integers(0, 256, (30, 30, 3), dtype=np.uint8)).save(root / "texture.png")


def make_concept(root: Path, **settings) -> ConceptReplacement:
    return ConceptReplacement(BlackSquares(), str(root / "texture.png"), **settings)


def run(
    root: Path,
    folder: Path,
    concept: ConceptReplacement | None = None,
    batch_size: int = 4,
    out: Path | None = None,
    report: bool = True,
    **parallel: Any,
) -> Manipulation:
    """Make images in ``out``, by default ``made`` in the folder, where the report is left."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 3))
    callback = Manipulation(concept or make_concept(root), str(out or folder / "made"))
    reports = [RunReport()] if report else []
    trainer = quiet_trainer(callbacks=[callback, *reports], default_root_dir=folder, **parallel)
    images = ImageFolderDataModule(
        str(root), mean=[0.4] * 3, std=[0.3] * 3, batch_size=batch_size, num_workers=0, cache=False
    )
    trainer.test(ClassificationTask(network), images, verbose=False)
    return callback


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
