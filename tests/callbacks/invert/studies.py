"""A small network of random weights, images and a rule, and studies of the inverse direction with them."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.func import functional_call

from editable.callbacks import RunReport
from editable.callbacks.invert.callback import InverseDirectionStudy
from editable.callbacks.site.moment import MomentSettings
from editable.data import ImageFolderDataModule, RewriteRule
from editable.tasks import ClassificationTask
from tests.rewriting.problems import Untouched

__all__ = ["SIZE", "Study", "errors", "images_of", "make_network", "rule", "run", "save_images", "study"]

SIZE, CLASSES = 16, ("dark", "light")


class Study(NamedTuple):
    """A study with a report: the callback, its folder, and what is in metrics.json and report.md."""

    callback: InverseDirectionStudy
    folder: Path
    metrics: dict[str, float]
    report: str


def make_network() -> nn.Module:
    """Of random weights: what is looked at is that figures are those of the rewritten network, not that it is good."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 2),
    ).eval()


def save_images(root: Path) -> None:
    """Images, exemplars with masks of the lower half, others that are held out, and a blue texture."""
    generator = torch.Generator().manual_seed(1)
    for split, count in (("train", 40), ("test", 30)):
        labels = torch.arange(count) % 2
        images = 0.08 * torch.randn(count, 3, SIZE, SIZE, generator=generator) + 0.4
        images[:, :, : SIZE // 2] += 0.25 * (labels.view(-1, 1, 1, 1) - 0.5)
        for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            _save(root / split / CLASSES[label] / f"{number:03}.png", image)
    for name, numbers in (("masks", range(6)), ("held_out", range(6, 14))):
        files = [f"train/{CLASSES[number % 2]}/{number:03}.png" for number in numbers]
        masks = [{"image": file, "box": [0, SIZE // 2, SIZE, SIZE]} for file in files]
        (root / f"{name}.json").write_text(json.dumps({"masks": masks}))
    _save(root / "blue.png", torch.tensor([0.0, 0.1, 0.95]).view(3, 1, 1).expand(3, SIZE, SIZE))


def _save(path: Path, image: torch.Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((image.clamp(0, 1).permute(1, 2, 0) * 255).round().byte().numpy()).save(path)


def rule(root: Path, name: str = "masks", **settings) -> RewriteRule:
    return RewriteRule(str(root / f"{name}.json"), texture=str(root / "blue.png"), **settings)


def images_of(root: Path) -> ImageFolderDataModule:
    return ImageFolderDataModule(str(root), image_size=SIZE, num_workers=0, mean=(0.5,) * 3, std=(0.25,) * 3)


def study(make_trainer, network: nn.Module, root: Path, moment: dict | None = None, others: tuple = (), **settings):
    """Run the callback alone, or with others; the callback, what is logged, and the run's folder."""
    options = {"layer": "2", "moment": MomentSettings(**moment or {}), **settings}
    callback = InverseDirectionStudy(rule(root), **options)
    trainer = make_trainer(callbacks=[callback, *others])
    with Untouched(network):
        (logged,) = trainer.test(ClassificationTask(network), images_of(root), verbose=False)
    return callback, logged, Path(trainer.default_root_dir)


def run(make_trainer, network: nn.Module, root: Path, **settings) -> Study:
    """Study as the command line does, with a report."""
    callback, _, folder = study(make_trainer, network, root, others=(RunReport(),), **settings)
    metrics = json.loads((folder / "metrics.json").read_text())
    return Study(callback, folder, metrics, (folder / "report.md").read_text())


def errors(network: nn.Module, root: Path, name: str, params: dict[str, torch.Tensor] | None = None) -> float:
    """Error rate on a folder by a plain loop over files."""
    wrong = total = 0
    for label, group in enumerate(CLASSES):
        for path in sorted((root / name / group).glob("*.png")):
            image = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None] / 255
            logits = functional_call(network, params or {}, ((image - 0.5) / 0.25,))
            wrong += int(logits.argmax() != label)
            total += 1
    return wrong / total
