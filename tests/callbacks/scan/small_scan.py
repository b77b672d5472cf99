"""A scan of 36 small images, some of which have a magenta square, that tests of several files run."""

import csv
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from editable.callbacks import RunReport
from editable.callbacks.scan import SpuriousScan
from editable.data import ImageFolderDataModule
from editable.rewriting.concepts.concept_replacement import ConceptReplacement
from editable.rewriting.concepts.patch_finder import PatchFinder
from editable.tasks import ClassificationTask
from tests.quiet_trainer import quiet_trainer

SIZE, CLASSES, COUNT = 10, ("boat", "car", "tram"), 12
WITH_PATCH = {"boat": range(8), "car": range(4), "tram": range(5)}
"""Images of each class that have a magenta square of 3 pixels in a corner."""
MEAN, STD, GREY = [0.4, 0.4, 0.4], [0.25, 0.25, 0.25], 102


def write_images(folder: Path) -> None:
    """Write the images into ``train`` and ``test`` of a folder, and a grey one beside."""
    random = np.random.default_rng(0)
    for name in CLASSES:
        for split in ("train", "test"):
            (folder / split / name).mkdir(parents=True)
        for number in range(COUNT):
            pixels = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            if number in WITH_PATCH[name]:
                pixels[6:9, 6:9] = (255, 0, 255)
            Image.fromarray(pixels).save(folder / "test" / name / f"{number:02}.png")
    Image.new("RGB", (4, 4), (GREY, GREY, GREY)).save(folder / "grey.png")


def make_network(seed: int = 0, num_classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, num_classes)
    nn.init.normal_(layers[-1].weight)
    return nn.Sequential(*layers).eval()


class TakesMagentaFor(nn.Module):
    """Knows no class by anything but a magenta corner, which it takes for one of them; else it says the last one."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]))
        self.logits.data[1, label] = 5

    def forward(self, images: Tensor) -> Tensor:
        plain = images * images.new_tensor(STD)[:, None, None] + images.new_tensor(MEAN)[:, None, None]
        corner = plain[:, :, 6:9, 6:9].mean(dim=(2, 3))
        magenta = ((corner - images.new_tensor([1.0, 0.0, 1.0])).abs() < 0.01).all(dim=1)
        return self.logits[magenta.long()]


def make_concept(root: Path, size: int = 3, **settings) -> ConceptReplacement:
    return ConceptReplacement(PatchFinder(size=size), str(root / "grey.png"), **settings)


def run(root, folder, network=None, concept=None, data=None, parallel=None, report=True, **settings) -> SpuriousScan:
    """Scan the images of a root; without a report, nothing is drawn."""
    callback = SpuriousScan(concept or make_concept(root), **{"min_found": 1, **settings})
    callbacks = [callback, *([RunReport()] if report else [])]
    trainer = quiet_trainer(callbacks=callbacks, default_root_dir=folder, **(parallel or {}))
    defaults = {"mean": MEAN, "std": STD, "batch_size": 7, "num_workers": 0}
    images = ImageFolderDataModule(str(root), **{**defaults, **(data or {})})
    trainer.test(ClassificationTask(network or make_network()), images, verbose=False)
    return callback


def metrics_of(folder: Path) -> dict[str, float]:
    metrics = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in metrics.items() if name.startswith("scan_")}


def table_of(folder: Path) -> dict[str, dict[str, str]]:
    return {row["class"]: row for row in csv.DictReader((folder / "scan.csv").open())}
