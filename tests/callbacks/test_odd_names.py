"""Classes with names that mean something to YAML, Markdown or a file system, in every command that takes a class."""

import csv
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from editable.models import cifar_resnet
from tests.callbacks.small_commands import CONCEPT, EDITOR, FEW, make_images, rule, run, told
from tests.callbacks.small_commands import settings as small_settings
from tests.warned import NO_LPIPS

COMPOSED = "caf\u00e9"
NAMES = sorted(
    ["003", "1e3", "null", "yes", "3", "<b>bold", "a|b", "crane [bird]", unicodedata.normalize("NFD", COMPOSED), "$x$"]
)
TYPED = [COMPOSED if unicodedata.normalize("NFC", name) == COMPOSED else name for name in NAMES]
"""As they are asked for: of the accent, the form that the folder's name has not."""
NETWORK: dict[str, Any] = {"layers": [1, 1, 1, 1], "num_classes": len(NAMES), "width": 4}
HARD = [TYPED.index(name) for name in ("null", "003", "a|b", COMPOSED)]

pytestmark = pytest.mark.filterwarnings(NO_LPIPS)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_images(root, NAMES)
    torch.manual_seed(0)
    save_file(cifar_resnet(**NETWORK).state_dict(), root / "weights.safetensors")
    return root


@pytest.fixture(autouse=True)
def _own_folder(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(images)


def settings(planted: str, **sections: Any) -> dict[str, Any]:
    network = {"class_path": "editable.models.cifar_resnet", "init_args": {**NETWORK}}
    return small_settings(planted, network, "data/weights.safetensors", **sections)


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
    small = cifar_resnet(**{**NETWORK, "num_classes": len(NAMES) - 1})
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
    content = settings("null", stream={"edits": table})
    content["evaluation"] |= {"editor": EDITOR, "editable_layers": ["all"]}
    folder = run("stream", content)
    with (folder / "corrections.csv").open(newline="", encoding="utf-8") as file:
        found = [(int(row["index"]), int(row["new_label"])) for row in csv.DictReader(file)]
    assert found == [(2 * position, (position + 1) % len(NAMES)) for position in range(len(NAMES))]
