"""A new class in small images of coloured squares, that tests of several files run."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from editable.callbacks import RunReport
from editable.callbacks.new_class import NewClass
from editable.data import ImageFolderDataModule
from editable.rewriting.new_class.class_filter import ClassFilterTraining
from editable.tasks import ClassificationTask
from tests.quiet_trainer import quiet_trainer

SIZE, OLD, NEW = 12, ("green", "red"), "blue"
MEAN, STD = [0.4, 0.4, 0.4], [0.25, 0.25, 0.25]


def picture(name: str, random: np.random.Generator) -> np.ndarray:
    """Noise with a coloured square somewhere."""
    pixels = random.normal(90, 12, (SIZE, SIZE, 3))
    row, column = random.integers(0, SIZE - 7, 2)
    pixels[row : row + 7, column : column + 7, ("red", "green", "blue").index(name)] += 80
    return pixels.clip(0, 255).astype(np.uint8)


def write_images(folder: Path) -> None:
    """Write folders old/train, old/test with two classes, new/learn, new/judge with the third, and masks."""
    random = np.random.default_rng(0)
    wanted = {f"old/{split}/{name}": (name, count) for split, count in (("train", 20), ("test", 8)) for name in OLD}
    wanted |= {"new/learn": (NEW, 4), "new/judge": (NEW, 6)}
    for place, (name, count) in wanted.items():
        (folder / place).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(picture(name, random)).save(folder / place / f"{number:02}.png")
    outline = {"image": "02.png", "class": NEW, "box": [0, 0, SIZE, 6]}
    (folder / "outlines.json").write_text(json.dumps({"masks": [outline]}))
    part = {"image": "old/train/red/00.png", "box": [3, 3, 9, 9]}
    (folder / "parts.json").write_text(json.dumps({"masks": [part]}))


def make_network(num_classes: int = 2) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, num_classes),
    )
    return network.eval()


def make_data(root: Path, **settings) -> ImageFolderDataModule:
    defaults = {"mean": MEAN, "std": STD, "batch_size": 7, "num_workers": 0, "validation_fraction": 0.5}
    return ImageFolderDataModule(str(root / "old"), **{**defaults, **settings})


def make_callback(root: Path, **settings) -> NewClass:
    defaults = {
        "layer": "3",
        "images": str(root / "new/learn"),
        "test_images": str(root / "new/judge"),
        "num_positives": 2,
        "num_negatives": 6,
        "training": ClassFilterTraining(0.05, num_steps=30),
        "max_loss": 0.1,
    }
    return NewClass(NEW, **{**defaults, **settings})


class Run(NamedTuple):
    """What a run has left: its callback, the logged metrics, its folder, and the network that it was given."""

    callback: NewClass
    metrics: dict[str, float]
    folder: Path
    network: nn.Module


def run(root, folder, network=None, data=None, report=False, **settings) -> Run:
    """Add the new class; without a report, nothing is drawn."""
    callback, network = make_callback(root, **settings), network or make_network()
    trainer = quiet_trainer(callbacks=[callback, *([RunReport()] if report else [])], default_root_dir=folder)
    trainer.test(ClassificationTask(network), data or make_data(root), verbose=False)
    return Run(callback, {name: value.item() for name, value in trainer.callback_metrics.items()}, folder, network)


def read(folder: Path) -> torch.Tensor:
    """Images of a folder as the network gets them, by hand."""
    stored = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])
    return ((torch.from_numpy(stored).double() / 255 - MEAN[0]) / STD[0]).permute(0, 3, 1, 2).float()
