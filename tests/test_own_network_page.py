"""Every command on the page about one's own network runs, in a folder with what it names."""

import json
import re
import shlex
from pathlib import Path

import datasets
import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms import v2

from editable.cli import main
from editable.models import hugging_face_classifier, write_weights
from tests.paths import DOCS
from tests.warned import BEING_TAKEN

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


def blocks(kind: str) -> list[str]:
    """The blocks of a kind, such as ``python``; commands have none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for of, text in found if of == kind]


def commands() -> list[str]:
    """The lines of all blocks, those that go on joined; comments and installations are left out."""
    lines = [line for text in blocks("") for line in text.replace("\\\n", " ").splitlines()]
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
    torch.manual_seed(0)
    weights = torchvision.models.squeezenet1_1(num_classes=3).state_dict()
    weights["classifier.1.bias"] = torch.tensor([2.0, 1.0, 1.0])  # everything is a cat
    torch.save(weights, root / "squeezenet.pt")
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


NAMING = [command for command in commands() if " test --model " in command]
CORRECTING = [command for command in commands() if "mine.yaml" in command or " patches " in command]


@pytest.mark.filterwarnings(BEING_TAKEN)
@pytest.mark.parametrize("command", NAMING)
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


def logits(weights: dict[str, torch.Tensor], path: str) -> torch.Tensor:
    """What plain torchvision makes of a picture."""
    network = torchvision.models.squeezenet1_1(num_classes=3).eval()
    network.load_state_dict(weights)
    picture = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)
    image = v2.functional.resize(picture, [64, 64]).float() / 255
    with torch.no_grad():
        return network(image[None])[0]


def test_a_correction_in_ten_lines(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(folder)
    (lines,) = blocks("python")
    assert len([line for line in lines.splitlines() if line and not line.startswith(("import", "from"))]) <= 10
    exec(compile(lines, str(PAGE), "exec"), {})
    assert "1 image, with 8 views of each" in capsys.readouterr().out
    weights = torch.load("corrected.pt", weights_only=True)
    assert logits(weights, "pets/evaluation/cat/0.png").argmax() == 2, "an owl, in plain torchvision"


def test_a_correction_in_five_commands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "mine.yaml").write_text(blocks("yaml")[0])
    assert len(CORRECTING) <= 5
    for command in CORRECTING:
        if "onnx" in command:
            pytest.importorskip("onnxruntime")
        words = shlex.split(command)
        more = [] if words[2] == "patches" else QUICK
        main([*words[2:], *more, *(["--edit.max_drawdown=1"] if words[2] == "edit" else [])])
    classes = sorted(SIDES)
    weights = load_file("corrected.safetensors")
    plain = torchvision.models.squeezenet1_1(num_classes=3)
    plain.load_state_dict(weights)
    assert classes.index("owl") == 2
    assert Path("corrected.onnx").is_file()
    original = torch.load("squeezenet.pt", weights_only=True)
    changed = {name for name, value in weights.items() if not torch.equal(value, original[name])}
    assert changed == {"classifier.1.weight", "classifier.1.bias"}


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
