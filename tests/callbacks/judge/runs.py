"""Small runs of `judge`: images whose concept is a rule that a test can write down, and a network of random weights."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from editable.callbacks import FourTests, RunReport
from editable.data import ImageFolderDataModule
from editable.rewriting.concepts.concept_finder import ConceptFinder
from editable.tasks import ClassificationTask
from tests.quiet_trainer import quiet_trainer

SIZE, CLASSES = 10, ("boat", "car", "tram")
MEAN, STD = [0.4, 0.4, 0.4], [0.25, 0.25, 0.25]
BLUE = 0.5
"""An image whose mean blue is above this has the concept; it is in the upper left quarter."""


class BlueQuarter(ConceptFinder):
    """Finds the concept by a rule that a test can write down."""

    network: nn.Module | None = None

    def __init__(self, threshold: float = BLUE) -> None:
        self.threshold, self.seen = threshold, []

    def prepare(self, network, *arguments) -> None:
        self.network = network

    def find(self, images: Tensor, names) -> Tensor:
        self.seen += names
        masks = images.new_zeros(len(images), SIZE, SIZE)
        masks[images[:, 2].mean(dim=(1, 2)) > self.threshold, : SIZE // 2, : SIZE // 2] = 1
        return masks

    def activation(self, images: Tensor, names) -> Tensor:
        assert self.network is not None, "a finder is prepared before it is asked"
        return images[:, 2].mean(dim=(1, 2))


class Replaced(NamedTuple):
    images: Tensor
    masks: Tensor
    found: Tensor


class Grey:
    """Puts grey in the concept's place."""

    def __init__(self, finder: ConceptFinder) -> None:
        self.finder = finder
        self.settings = {"threshold": getattr(finder, "threshold", None)}

    def __call__(self, images: Tensor, names) -> Replaced:
        masks = self.finder.find(images, names)
        return Replaced(torch.where(masks[:, None] > 0, 0.5, images), masks, masks.flatten(1).any(dim=1))


def save_images(root: Path) -> None:
    """Write twelve test images of each class, the later ones the bluer."""
    random = np.random.default_rng(0)
    for name in CLASSES:
        for split in ("train", "test"):
            (root / split / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 256, (SIZE, SIZE, 3)) // 2
            pixels[..., 2] += 10 * number
            Image.fromarray(pixels.astype(np.uint8)).save(root / "test" / name / f"{number:02}.png")


def make_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    network = nn.Sequential(*layers, nn.Linear(16, 3))
    for parameter in network[-1].parameters():
        nn.init.normal_(parameter)
    return network.eval()


def make_data(root: Path, **settings) -> ImageFolderDataModule:
    defaults = {"mean": MEAN, "std": STD, "batch_size": 7, "num_workers": 0}
    return ImageFolderDataModule(str(root), **{**defaults, **settings})


class Run(NamedTuple):
    """A callback that has run, and what it has logged."""

    callback: FourTests
    metrics: dict[str, float]


def run(root: Path, network: nn.Module | None = None, folder: Path | None = None, data=None, **settings: Any) -> Run:
    """Judge; with a folder, leave the report there."""
    finder = settings.pop("finder", None) or BlueQuarter()
    defaults = {"target": "car", "concept": Grey(finder), "num_random_images": 20, "confusing_share": 0.2}
    callback = FourTests(**{**defaults, **settings})
    reports = [] if folder is None else [RunReport()]
    with TemporaryDirectory() as temporary:
        trainer = quiet_trainer(callbacks=[callback, *reports], default_root_dir=folder or temporary)
        trainer.test(ClassificationTask(network or make_network()), data or make_data(root), verbose=False)
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    return Run(callback, {name: value for name, value in metrics.items() if name.startswith("judge_")})


def read(root: Path) -> tuple[Tensor, list[int], list[str]]:
    """All test images in [0, 1], their labels and names, by hand."""
    names = [f"{name}/{number:02}.png" for name in CLASSES for number in range(12)]
    stored = np.stack([np.asarray(Image.open(root / "test" / name)) for name in names])
    images = torch.from_numpy(stored).permute(0, 3, 1, 2).float() / 255
    return images, [CLASSES.index(name.split("/")[0]) for name in names], names
