"""Every command on the page about one's own network runs, in a folder with what it names."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from editable.cli import main
from editable.models import hugging_face_classifier, write_weights
from tests.paths import DOCS

timm, datasets = pytest.importorskip("timm"), pytest.importorskip("datasets")

PAGE = DOCS / "your-own-network.md"
SIDES = {"cat": (40, 50), "dog": (50, 40), "owl": (64, 64)}
QUICK = [
    "--data.num_workers=0",
    "--data.batch_size=8",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]
NETWORKS = '''
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2


class Normalised(nn.Module):
    """Takes pixels from 0 to 1, and normalises them by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.normalise = v2.Normalize([0.5, 0.5, 0.5], [0.2, 0.2, 0.2])
        parts = [nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.layers = nn.Sequential(*parts, nn.Linear(4, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(self.normalise(images))


class Pets(Dataset):
    """Photographs of pets: an argument tells the parts."""

    def __init__(self, part: str = "train") -> None:
        self.images = ImageFolder(f"pets/{part}")
        self.targets, self.classes = self.images.targets, self.images.classes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self.images[index]
'''


def commands() -> list[str]:
    """The lines of all blocks, those that go on joined; comments and installations are left out."""
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if not line.startswith(("#", "pip install"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of pets, and networks for them."""
    root = tmp_path_factory.mktemp("own")
    random, rows = np.random.default_rng(0), []
    for split in ("train", "test", "evaluation"):
        for name, sides in SIDES.items():
            place = root / "pets" / split / name
            place.mkdir(parents=True)
            for number in range(3):
                path = place / f"{number}.png"
                Image.fromarray(random.integers(0, 256, (*sides, 3), dtype=np.uint8)).save(path)
                if split != "evaluation":
                    rows.append((path.relative_to(root / "pets").as_posix(), name, split))
    (root / "pets.csv").write_text("\n".join(map(",".join, [("path", "species", "split"), *rows])))
    (root / "classes.txt").write_text("owl\ncat\ndog\n")
    (root / "my_networks.py").write_text(NETWORKS)
    vit = timm.create_model("test_vit", num_classes=3, img_size=[32, 48])
    write_weights(root / "vit.safetensors", vit)
    torch.save(torchvision.models.squeezenet1_1(num_classes=3).state_dict(), root / "squeezenet.pt")
    settings = {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "layer_type": "basic"}
    names = {0: "owl", 1: "cat", 2: "dog"}
    hugging_face_classifier("resnet", False, id2label=names, **settings).save_pretrained(root / "my_resnet")
    images = {
        "image": [str(root / "pets" / path) for path, _, split in rows if split == "test"],
        "label": [sorted(SIDES).index(name) for _, name, split in rows if split == "test"],
    }
    part = datasets.Dataset.from_dict(images).cast_column("image", datasets.Image())
    part = part.cast_column("label", datasets.ClassLabel(names=sorted(SIDES)))
    datasets.DatasetDict({"test": part}).save_to_disk(root / "pets_saved")
    return root


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_page(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    words = shlex.split(command)
    if words[0] == "PYTHONPATH=.":
        monkeypatch.syspath_prepend(str(folder))
        words = words[1:]
    assert words[:2] == ["python", "train.py"]
    before = set(folder.rglob("metrics.json"))
    main([*words[2:], *QUICK])
    (metrics,) = set(folder.rglob("metrics.json")) - before
    found = json.loads(metrics.read_text())
    assert 0 <= found["test_error"] <= 1


def test_the_page_has_them_all() -> None:
    text = " ".join(commands())
    for name in (
        "ImageTableDataModule",
        "DatasetDataModule",
        "HuggingFaceDataModule",
        "timm",
        "hugging_face",
        "torchvision",
    ):
        assert name in text
