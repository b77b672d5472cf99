"""A small network of random weights, images and a rule, and looks at what a rewrite of it has changed."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from editable.callbacks import RunReport
from editable.callbacks.see.callback import Seeing
from editable.callbacks.site.moment import MomentSettings
from editable.data import ImageFolderDataModule, RewriteRule
from editable.rewriting import ReconstructionSettings
from editable.tasks import ClassificationTask
from tests.rewriting.problems import Untouched

__all__ = ["SIZE", "Look", "look", "make_network", "rule", "run", "save_images", "seeing"]

SIZE, CLASSES = 12, ("dark", "light")
SHORT = ReconstructionSettings(num_steps=10, restarts=2)
LONG = {
    "key_descent": ReconstructionSettings(num_steps=700),
    "feature_descent": ReconstructionSettings(num_steps=100),
    "image_descent": ReconstructionSettings(num_steps=80, learning_rate=0.05),
}
"""Long enough to find something."""


class Look(NamedTuple):
    """A look with a report: the callback, its folder, and what is in metrics.json."""

    callback: Seeing
    folder: Path
    metrics: dict[str, float]


def make_network() -> nn.Module:
    """Random weights; the memory of its second convolution, [54, 5], tells all keys apart, also once rewritten."""
    torch.manual_seed(6)
    layers = [nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 6, 3, padding=1, bias=False)]
    head = [nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4), nn.Linear(4, 2)]
    return nn.Sequential(*layers, *head).eval()


def save_images(root: Path) -> None:
    """Noisy images, masks of the lower half of three of them, and a blue texture."""
    random = np.random.RandomState(0)
    for split, count in (("train", 8), ("test", 2)):
        for level, name in zip((60, 160), CLASSES, strict=True):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = (level + random.randint(0, 60, (SIZE, SIZE, 3))).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    lower_half = [[0, SIZE // 2], [SIZE, SIZE // 2], [SIZE, SIZE], [0, SIZE]]
    files = ["train/dark/0.png", "train/light/1.png", "train/dark/2.png"]
    (root / "masks.json").write_text(json.dumps({"masks": [{"image": file, "polygon": lower_half} for file in files]}))
    blue = np.array([10, 25, 225]) + random.randint(-10, 11, (3 * SIZE, 3 * SIZE, 3))
    Image.fromarray(blue.astype(np.uint8)).save(root / "blue.png")


def rule(root: Path, **settings) -> RewriteRule:
    return RewriteRule(str(root / "masks.json"), texture=str(root / "blue.png"), **{"image_size": SIZE, **settings})


def seeing(root: Path, **settings) -> Seeing:
    descents = {f"{stage}_descent": SHORT for stage in ("key", "feature", "image")}
    defaults = {"layer": "3", "moment": {}, "perceptual": "standin", **descents}
    options = {**defaults, **settings}
    return Seeing(options.pop("rule", None) or rule(root), **options | {"moment": MomentSettings(**options["moment"])})


def look(make_trainer, network: nn.Module, root: Path, callback: Seeing, **settings) -> dict[str, float]:
    """Run the callback alone, without a report; what is logged."""
    trainer = make_trainer(callbacks=[callback, *settings.pop("callbacks", [])], **settings)
    data = ImageFolderDataModule(str(root), image_size=SIZE, num_workers=0, mean=(0.5,) * 3, std=(0.25,) * 3)
    with Untouched(network):
        return trainer.test(ClassificationTask(network), data, verbose=False)[0]


def run(make_trainer, network: nn.Module, root: Path, folder: Path, callback: Seeing) -> Look:
    """Run it with a report."""
    look(make_trainer, network, root, callback, callbacks=[RunReport()], default_root_dir=folder)
    return Look(callback, folder, json.loads((folder / "metrics.json").read_text()))
