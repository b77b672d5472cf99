"""A patch of every kind, on a small network."""

import copy
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from editable.editing import (
    GD,
    BaseEditor,
    CodebookEditor,
    Editor,
    EditPatch,
    EditRecord,
    EditSite,
    Harm,
    MinimalHarmEditor,
    NeuronEditor,
    RMSProp,
)
from editable.models import SplitNetwork, add_extra_layer, cifar_resnet

__all__ = ["CLASSES", "EDITORS", "IMAGES", "KINDS", "Made", "copy_of", "correct", "made", "network", "same"]

CLASSES = list("abcdefghij")
IMAGES = torch.randn(40, 3, 32, 32, generator=torch.Generator().manual_seed(5))
EDITORS: dict[str, tuple[Callable[[], BaseEditor], list[str]]] = {
    "gd": (lambda: Editor(GD(0.1), max_steps=30), ["layer4"]),
    "rmsprop": (lambda: Editor(RMSProp(1e-3), max_steps=30), ["layer3"]),
    "minimal harm": (lambda: MinimalHarmEditor(num_references=40), ["fc"]),
    "codebook": (lambda: CodebookEditor(threshold=0.99, firing_rate=1, num_references=40), []),
    "codebook of maps": (
        lambda: CodebookEditor(threshold=0.99, firing_rate=1, num_references=40, layers=["layer4.0.conv1", "avgpool"]),
        [],
    ),
    "neurons": (lambda: NeuronEditor(num_references=40), []),
    "extra layer": (lambda: Editor(GD(0.1), max_steps=30), ["extra_layer"]),
}
KINDS = [*EDITORS, "rank one", "two entries", "half precision"]


class Made(NamedTuple):
    """A patch, the plain network that it is for, and what the patched network predicts for IMAGES."""

    patch: EditPatch
    network: nn.Module
    logits: Tensor


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    plain = cifar_resnet(num_classes=10, width=4, layers=(1, 1, 1, 1)).eval()
    return plain.to(memory_format=torch.channels_last)


def copy_of(some: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in some.state_dict().items()}


def same(some: nn.Module, state: dict[str, Tensor]) -> bool:
    own = some.state_dict()
    return own.keys() == state.keys() and all(torch.equal(tensor, state[name]) for name, tensor in own.items())


def correct(kind: str, base: nn.Module, number: int) -> tuple[nn.Module, dict[str, Tensor], Tensor]:
    """Ask for another label of a random image; return the furnished copy, edited parameters, and the image."""
    make, layers = EDITORS[kind]
    editor = make().with_strict_success()
    furnished = editor.furnish(copy.deepcopy(base))
    split = SplitNetwork(furnished, list(editor.own_layers or layers))
    labels = torch.arange(40) % 10
    placed = editor.at(EditSite(split, lambda number: [(IMAGES, labels)]))
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(100 + number))
    with torch.no_grad():
        asked = furnished(image).topk(2).indices[:, 1]
    result = placed(split.suffix, dict(split.params), split.prefix(image), asked)
    assert result.success
    return furnished, result.params, image


def record(number: int) -> EditRecord:
    return EditRecord(
        [f"image {number}: a → b"],
        {"editor": {"class_path": "editable.editing.GD", "init_args": {"learning_rate": 0.1}}},
        "3 test images",
        {"drawdown": 0.25},
        CLASSES,
        [f"image {number}"],
        [1],
        Harm("broken", 0, 3, 0.6316, 0.95),
    )


@cache
def made(kind: str) -> Made:
    base = network()
    if kind == "extra layer":
        base = add_extra_layer(base, hidden=16)
    if kind == "half precision":
        base = base.to(torch.bfloat16)
    if kind in EDITORS:
        furnished, params, _ = correct(kind, base, 0)
    else:
        furnished, weight = base, base.state_dict()["layer4.0.conv2.weight"]
        u, v = (torch.randn(size, generator=torch.Generator().manual_seed(1)) / 50 for size in (32, 288))
        changed = weight + (u[:, None] * v).view_as(weight).to(weight.dtype)
        if kind == "two entries":
            changed = weight.clone()
            changed[0, 0, 0, 0] += 1
            changed[1, 2, 0, 1] += 1
        params = {"layer4.0.conv2.weight": changed}
    plain = network() if kind == "extra layer" else base
    with torch.no_grad():
        logits = functional_call(furnished, params, (IMAGES.to(next(base.parameters()).dtype),))
    return Made(EditPatch.of(furnished, params, record(0)), plain, logits)
