"""Classes with names that mean something to YAML, Markdown or a file system, in every command that takes a class."""

import csv
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from markdown_it import MarkdownIt
from PIL import Image
from safetensors.torch import save_file

from editable.cli import main
from editable.models import cifar_resnet

COMPOSED = "caf\u00e9"
NAMES = sorted(
    ["003", "1e3", "null", "yes", "3", "<b>bold", "a|b", "crane [bird]", unicodedata.normalize("NFD", COMPOSED), "$x$"]
)
TYPED = [COMPOSED if unicodedata.normalize("NFC", name) == COMPOSED else name for name in NAMES]
"""As they are asked for: of the accent, the form that the folder's name has not."""
PATCH = {"class_path": "editable.rewriting.PatchFinder"}
CONCEPT = {
    "class_path": "editable.rewriting.ConceptReplacement",
    "init_args": {"finder": PATCH, "stylizer": "editable.data.surroundings"},
}
FEW = {"num_steps": 2}
HARD = [TYPED.index(name) for name in ("null", "003", "a|b", COMPOSED)]

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training and two test images of each class, outlines of some, and weights."""
    root, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 2)):
        for name in NAMES:
            (root / "images" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / "images" / split / name / f"{number}.png")
    (root / "texture.png").symlink_to(root / "images" / "train" / "yes" / "0.png")
    torch.manual_seed(0)
    save_file(network().state_dict(), root / "weights.safetensors")
    return root


@pytest.fixture(autouse=True)
def _own_folder(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(images)


def network() -> torch.nn.Module:
    return cifar_resnet(layers=(1, 1, 1, 1), num_classes=len(NAMES), width=4)


def settings(name: str, **sections: Any) -> dict[str, Any]:
    """A configuration, in which all test images have a patch that was planted in a class's training images."""
    return {
        "model": {
            "class_path": "editable.tasks.ClassificationTask",
            "init_args": {
                "network": {
                    "class_path": "editable.models.cifar_resnet",
                    "init_args": {"num_classes": len(NAMES), "width": 4, "layers": [1, 1, 1, 1]},
                },
                "weights": "data/weights.safetensors",
            },
        },
        "data": {
            "class_path": "editable.data.ImageFolderDataModule",
            "init_args": {
                "root": "data/images",
                "num_workers": 0,
                "image_size": 16,
                "cue": {
                    "class_path": "editable.data.PlantedPatch",
                    "init_args": {"class_name": name, "test_share": 1.0},
                },
            },
        },
        "evaluation": {"num_edits": 0},
        "trainer": {
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": {
                "class_path": "lightning.pytorch.loggers.CSVLogger",
                "init_args": {"save_dir": "runs", "name": "run"},
            },
        },
        **sections,
    }


def run(command: str, content: dict[str, Any], *options: str) -> Path:
    """Run a command; return its folder. Names stand in the configuration as PyYAML writes them."""
    Path("config.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    main([command, "--config=config.yaml", *options])
    return max(Path("runs", "run").iterdir(), key=lambda folder: int(folder.name.partition("_")[2]))


def rule(*names: str) -> dict[str, Any]:
    """A rule of one outlined test image of each class."""
    box = [0, 8, 16, 16]
    masks = [{"image": f"{name}/1.png", "box": box} for name in names]
    Path("masks.json").write_text(json.dumps({"masks": masks}), encoding="utf-8")
    return {
        "class_path": "editable.data.RewriteRule",
        "init_args": {"masks": "masks.json", "root": "data/images/test", "texture": "data/texture.png"},
    }


def told(folder: Path) -> str:
    """Return the text of a run's report as Markdown shows it."""
    tokens = MarkdownIt("commonmark").enable("table").parse((folder / "report.md").read_text(encoding="utf-8"))
    lines = [token.children or [] for token in tokens if token.type == "inline"]
    return "\n".join("".join(part.content for part in line) for line in lines)


@pytest.mark.parametrize("position", HARD)
def test_scan(position: int) -> None:
    content = settings(TYPED[position], scan={"concept": CONCEPT, "min_found": 1})
    folder = run("scan", content, "--scan.target", TYPED[position])
    assert f"'{NAMES[position]}' is number " in told(folder)
    with (folder / "scan.csv").open(newline="", encoding="utf-8") as file:
        assert {row["class"] for row in csv.DictReader(file)} == set(NAMES)


@pytest.mark.parametrize("position", HARD)
def test_judge(position: int) -> None:
    section = {"concept": CONCEPT, "confusing_share": 0.2, "noise": TYPED[position - 1]}
    text = told(run("judge", settings(TYPED[position], judge=section), f"--judge.target={TYPED[position]}"))
    assert f"Target: {NAMES[position]}." in text
    assert f"under the label {NAMES[position - 1]}," in text


def test_manipulate() -> None:
    run("manipulate", settings("null", manipulate={"concept": CONCEPT, "out": "made"}))
    images = json.loads(Path("made", "manifest.json").read_text(encoding="utf-8"))["images"]
    assert [image["class"] for image in images] == [name for name in NAMES for _ in range(2)]
    for image in images:
        assert Path("made", image["file"]).parent.name == image["class"]
        Image.open(Path("made", image["file"])).verify()


@pytest.mark.parametrize("command", ["rewrite", "see", "invert"])
def test_rules_of_images_of_all_classes(command: str) -> None:
    sections: dict[str, dict[str, Any]] = {
        "rewrite": {"layers": ["layer3.0.conv1"], "max_drop": 1.0},
        "see": dict.fromkeys(("key_descent", "feature_descent", "image_descent"), FEW) | {"num_exemplars": 10},
        "invert": {"held_out": None},
    }
    layer = {} if command == "rewrite" else {"layer": "layer3.0.conv1"}
    folder = run(command, settings("yes", **{command: {"rule": rule(*TYPED), **layer, **sections[command]}}))
    Image.open(folder / "exemplars.png").verify()
    metrics = json.loads((folder / "metrics.json").read_text())
    if command == "rewrite":
        assert "10 exemplars." in told(folder)
        assert torch.load(folder / "rewritten.ckpt", weights_only=True)["classes"] == NAMES
    else:
        assert metrics["see_num_exemplars" if command == "see" else "invert_num_exemplars_images"] == len(NAMES)


@pytest.mark.parametrize("position", HARD)
def test_new_class(position: int) -> None:
    """The new class bears the name of the one that is left out of the data."""
    for split in ("train", "test"):
        Path("old", split).mkdir(parents=True)
        for name in NAMES[:position] + NAMES[position + 1 :]:
            Path("old", split, name).symlink_to(Path("data/images", split, name).resolve())
    small = cifar_resnet(layers=(1, 1, 1, 1), num_classes=len(NAMES) - 1, width=4)
    save_file(small.state_dict(), "old.safetensors")
    content = settings(TYPED[position - 1])
    content["data"]["init_args"]["root"] = "old"
    content["model"]["init_args"]["weights"] = "old.safetensors"
    content["model"]["init_args"]["network"]["init_args"]["num_classes"] -= 1
    section = {
        "layer": "layer4.0.conv2",
        "images": f"data/images/train/{NAMES[position]}",
        "test_images": f"data/images/test/{NAMES[position]}",
        "components": [TYPED[position - 1], TYPED[position - 2]],
        "num_negatives": 3,
        "pool": "train",
        "training": FEW,
    }
    folder = run("new_class", {**content, "new_class": section}, f"--new_class.name={TYPED[position]}")
    assert re.search(rf"last class is '{re.escape(TYPED[position])}'", told(folder))
    assert json.loads((folder / "metrics.json").read_text())["new_class_num_old_test_images"] == 2 * (len(NAMES) - 1)


def test_stream() -> None:
    """Each image is to be of the class behind its own."""
    wanted = [*TYPED[1:], TYPED[0]]
    with Path("edits.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [(f"{name}/0.png", label) for name, label in zip(TYPED, wanted, strict=True)]
        csv.writer(file).writerows([("image", "label"), *rows])
    table = {"class_path": "editable.data.TableEdits", "init_args": {"table": "edits.csv"}}
    editor = {
        "class_path": "editable.editing.Editor",
        "init_args": {"rule": {"class_path": "editable.editing.Adam", "init_args": {"learning_rate": 0.01}}},
    }
    content = settings("null", stream={"edits": table})
    content["evaluation"] |= {"editor": editor, "editable_layers": ["all"]}
    folder = run("stream", content)
    with (folder / "corrections.csv").open(newline="", encoding="utf-8") as file:
        found = [(int(row["index"]), int(row["new_label"])) for row in csv.DictReader(file)]
    assert found == [(2 * position, (position + 1) % len(NAMES)) for position in range(len(NAMES))]
