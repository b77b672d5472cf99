"""Networks in files of their own: each format computes what the network does, for any number of images."""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from editable.editing import CodebookEditor, EditSite
from editable.errors import UserError
from editable.models import (
    SplitNetwork,
    add_codebook,
    add_extra_layer,
    add_neurons,
    cifar_resnet,
    cifar_vit,
    torchvision_model,
)
from editable.models.exporting import FORMATS

IMAGES = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def small() -> nn.Module:
    torch.manual_seed(0)
    return cifar_resnet(num_classes=7, width=4, layers=(1, 1, 1, 1)).eval()


def with_codebook() -> nn.Module:
    """A codebook with a row for each of three images, which gives them another class."""
    network = add_codebook(small())
    split = SplitNetwork(network, "codebook")
    editor = CodebookEditor(num_references=60)
    references = torch.randn(60, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    editor = editor.at(EditSite(split, lambda number: [(references, torch.zeros(60, dtype=torch.int64))]))
    labels = (network(IMAGES[:3]).argmax(dim=1) + 1) % 7
    rows = editor(split.suffix, split.params, split.prefix(IMAGES[:3]), labels).params
    for name, value in rows.items():
        owner, _, own = name.rpartition(".")
        setattr(network.get_submodule(owner), own, nn.Parameter(value))
    assert network(IMAGES[:3]).argmax(dim=1).equal(labels)
    return network.eval()


class Wrapped(nn.Module):
    """Returns a dict, as those of transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.inner(x), "other": x}


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": small,
    "codebook": with_codebook,
    "extra layer": lambda: add_extra_layer(small()).eval(),
    "neurons": lambda: add_neurons(small()).eval(),
    "transformer": lambda: cifar_vit(num_classes=7, image_size=16, num_layers=1, width=16, num_heads=2).eval(),
    "dict": Wrapped,
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("form", FORMATS)
def test_a_file_computes_what_the_network_does(form: str, kind: str, tmp_path: Path):
    if form == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
    network, path = NETWORKS[kind](), tmp_path / f"some{FORMATS[form].suffix}"
    FORMATS[form].write(network, IMAGES[:2], path, [f"class {label}" for label in range(7)])
    run = FORMATS[form].load(path, network)
    for number in (1, 2, 5):
        with torch.no_grad():
            given = network(IMAGES[:number])
            expected = given["logits"] if isinstance(given, dict) else given
            torch.testing.assert_close(run(IMAGES[:number]), expected, rtol=FORMATS[form].tolerance, atol=2e-5)


def test_weights_are_plain_torchvisions(tmp_path: Path):
    network = torchvision_model("resnet18", num_classes=5).eval()
    FORMATS["state_dict"].write(network, torch.randn(2, 3, 64, 64), tmp_path / "some.pt", None)
    plain = torchvision.models.resnet18(num_classes=5)
    plain.load_state_dict(torch.load(tmp_path / "some.pt", weights_only=True))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(plain.eval()(images), network(images))


def test_graphs_run_without_this_package_and_name_the_classes(tmp_path: Path):
    network, classes = small(), ["a|b", "猫", "null", "1e3", "x", "y", "z"]
    FORMATS["torch_export"].write(network, IMAGES[:2], tmp_path / "some.pt2", classes)
    extra = {"classes.json": ""}
    program = torch.export.load(tmp_path / "some.pt2", extra_files=extra)
    assert json.loads(extra["classes.json"]) == classes
    assert program.module()(IMAGES).shape == (5, 7)
    onnx = pytest.importorskip("onnx")
    FORMATS["onnx"].write(network, IMAGES[:2], tmp_path / "some.onnx", classes)
    model = onnx.load(tmp_path / "some.onnx")
    onnx.checker.check_model(model)
    assert [some.name for some in model.graph.input] == ["images"]
    assert [some.name for some in model.graph.output] == ["logits"]
    assert json.loads({some.key: some.value for some in model.metadata_props}["classes"]) == classes


class Deciding(nn.Module):
    """Takes another way by what it sees, which no graph holds."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.mean(dim=(2, 3))
        return self.fc(x) if x.sum() > 0 else self.fc(-x)


@pytest.mark.parametrize("form", ["torch_export", "onnx"])
def test_what_cannot_be_a_graph_is_said(form: str, tmp_path: Path):
    if form == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxscript")
    with pytest.raises(UserError, match=rf"Deciding cannot be exported as {form} \(.*: take the format safetensors"):
        FORMATS[form].write(Deciding(), IMAGES[:2], tmp_path / "some", None)


def test_a_missing_package_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert importlib.util.find_spec
    with pytest.raises(UserError, match=r"needs the package onnx, .* pip install 'editable\[onnx\]'"):
        FORMATS["onnx"].write(small(), IMAGES[:2], tmp_path / "some.onnx", None)
