"""Networks that have one tensor under several names: what a command changes is in every file that it leaves."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_model
from torch import Tensor

from editable.editing import EditPatch
from editable.models import grow_classes, load_weights
from tests.callbacks import colour_networks
from tests.callbacks.small_commands import EDITOR, FEW, make_images, rule, run, settings
from tests.warned import TIED

NAMES = [f"class {letter}" for letter in "abcdefghij"]

pytestmark = pytest.mark.filterwarnings(TIED)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_images(root, NAMES)
    return root


@pytest.fixture(autouse=True)
def _own_folder(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are as ``safetensors.save_model`` leaves them: of a tied tensor, one name alone."""
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(images)
    for name in ("TiedHead", "TiedBlocks"):
        save_model(getattr(colour_networks, name)(), f"{name}.safetensors")


def network(name: str, **settings: Any) -> dict[str, Any]:
    return {"class_path": f"tests.callbacks.colour_networks.{name}", "init_args": settings}


def configuration(name: str, **sections: Any) -> dict[str, Any]:
    return settings(NAMES[0], network(name), f"{name}.safetensors", **sections)


def predictions(name: str, weights: Path) -> Tensor:
    """Return the logits on made-up images of a network with the weights in a file."""
    made = getattr(colour_networks, name)()
    load_weights(made, weights)
    torch.manual_seed(1)
    with torch.no_grad():
        return made.eval()(torch.rand(20, 3, 16, 16))


def by_patch(name: str, patch: Path) -> Tensor:
    made = getattr(colour_networks, name)()
    load_weights(made, f"{name}.safetensors")
    torch.manual_seed(1)
    with EditPatch.load(patch).applied(made.eval()), torch.no_grad():
        return made(torch.rand(20, 3, 16, 16))


def error_of(content: dict[str, Any], *options: str) -> float:
    """Return the error of a plain test."""
    sections = {name: content[name] for name in ("model", "data", "trainer")}
    folder = run("test", {**sections, "evaluation": {"num_edits": 0}}, *options)
    return json.loads((folder / "metrics.json").read_text())["test_error"]


def test_rewrite() -> None:
    section = {"rule": rule(NAMES[0], NAMES[1]), "layers": ["b"], "max_drop": 1.0}
    folder = run("rewrite", configuration("TiedBlocks", rewrite=section))
    state = torch.load(folder / "rewritten.ckpt", weights_only=True)["state_dict"]
    assert state["network.b.weight"].equal(state["network.d.weight"])
    found = predictions("TiedBlocks", folder / "rewritten.ckpt")
    assert found.equal(by_patch("TiedBlocks", folder / "rewrite.safetensors"))
    assert not found.allclose(predictions("TiedBlocks", Path("TiedBlocks.safetensors")))
    plain = configuration("TiedBlocks")
    by_checkpoint = error_of(plain, f"--ckpt_path={folder / 'rewritten.ckpt'}")
    assert by_checkpoint == error_of(plain, f"--patches={folder / 'rewrite.safetensors'}")


@pytest.mark.parametrize(
    ("name", "layers"), [("TiedHead", ["head"]), ("TiedHead", ["hidden"]), ("TiedBlocks", ["d", "head"])]
)
def test_edit(name: str, layers: list[str]) -> None:
    content = configuration(name, edit={"images": [3], "labels": [NAMES[5]], "max_drawdown": 1.0})
    content["evaluation"] |= {"editor": EDITOR, "editable_layers": layers}
    folder = run("edit", content)
    found = predictions(name, folder / "edited.ckpt")
    assert found.equal(by_patch(name, folder / "edit.safetensors"))
    assert not found.allclose(predictions(name, Path(f"{name}.safetensors")))


@pytest.mark.parametrize(("name", "layers"), [("TiedHead", ["head"]), ("TiedHead", ["hidden"]), ("TiedBlocks", ["d"])])
def test_stream(name: str, layers: list[str]) -> None:
    content = configuration(name, stream={"num_edits": 3})
    content["evaluation"] |= {"editor": EDITOR, "editable_layers": layers}
    folder = run("stream", content)
    with (folder / "corrections.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    found = predictions(name, folder / "corrected.safetensors")
    assert not found.allclose(predictions(name, Path(f"{name}.safetensors")))
    content["model"]["init_args"]["weights"] = str(folder / "corrected.safetensors")
    labels = predicted_labels(content)
    held = [labels[int(row["index"])] == int(row["new_label"]) for row in rows]
    assert held == [row["holds"] == "1" for row in rows]
    assert held[-1]


def predicted_labels(content: dict[str, Any]) -> list[int]:
    sections = {name: content[name] for name in ("model", "data", "trainer")}
    folder = run("predict", {**sections, "evaluation": {"num_edits": 0}})
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return [int(row["label"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(("name", "layer"), [("TiedHead", "c"), ("TiedBlocks", "b")])
def test_new_class(name: str, layer: str) -> None:
    section = {
        "name": "new",
        "layer": layer,
        "images": "data/images/train/class a",
        "test_images": "data/images/test/class a",
        "num_negatives": 3,
        "pool": "train",
        "training": FEW,
    }
    folder = run("new_class", configuration(name, new_class=section))
    assert load_file(folder / "grown.safetensors").keys() == grown(name, layer).state_dict().keys()
    made = grown(name, layer)
    load_weights(made, folder / "grown.safetensors")
    torch.manual_seed(1)
    with torch.no_grad():
        found = made.eval()(torch.rand(20, 3, 16, 16))
    assert found.shape == (20, 11)
    assert found[:, :10].equal(predictions(name, Path(f"{name}.safetensors")))


def grown(name: str, layer: str) -> torch.nn.Module:
    return grow_classes(getattr(colour_networks, name)(), layer)
