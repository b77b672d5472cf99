"""The file of a patch of format 2: whole, and whatever is wrong in it told in one sentence."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from editable.editing import EditPatch, EditRecord, Harm
from editable.errors import UserError
from editable.models.tensor_file import read_tensors
from tests.editing.patches.kinds import made

RECORD = EditRecord(
    ["a.png: cat → dog"],
    {"editor": {"class_path": "editable.editing.GD"}},
    "3 test images",
    {"drawdown": 0.25, "nothing": float("nan")},
    ["cat", "dog"],
    ["a.png"],
    [1],
    Harm("changed", None, 3, 0.6, 0.95, 0.7),
    {},
    "runs/a/config.yaml",
)


def test_all_that_is_told_of_several_edits_comes_back(tmp_path: Path) -> None:
    layer = nn.Linear(2, 2)
    EditPatch.of(layer, {"bias": torch.ones(2)}, [RECORD, EditRecord(["b"], 5, classes=["cat", "dog"])]).save(
        tmp_path / "a.safetensors"
    )
    first, second = EditPatch.load(tmp_path / "a.safetensors").edits
    assert first == EditRecord(**{**RECORD.__dict__, "outcome": {"drawdown": 0.25}})
    assert second == EditRecord(["b"], 5, classes=["cat", "dog"])
    assert EditPatch.load(tmp_path / "a.safetensors").record.asked == ["a.png: cat → dog", "b"]


@pytest.mark.parametrize(
    ("record", "read"),
    [
        (EditRecord(labels=[3, 0]), EditRecord(labels=[3, 0])),  # of images without names
        (EditRecord(labels=[np.int64(3), torch.tensor(1)]), EditRecord(labels=[3, 1])),
        (EditRecord(outcome={"drawdown": np.float32(0.25)}), EditRecord(outcome={"drawdown": 0.25})),
        (
            EditRecord(made_by={"radius": math.inf, "layers": ("a",)}),
            EditRecord(made_by={"radius": "inf", "layers": ["a"]}),
        ),
    ],
)
def test_what_callers_put_into_a_record_comes_back(record: EditRecord, read: EditRecord, tmp_path: Path) -> None:
    EditPatch.of(nn.Linear(2, 2), {"bias": torch.ones(2)}, record).save(tmp_path / "a.safetensors")
    assert EditPatch.load(tmp_path / "a.safetensors").edits == (read,)


@pytest.mark.parametrize(
    "record",
    [
        EditRecord(labels=[-1]),
        EditRecord(labels=["cat"]),
        EditRecord(images=["a.png"], labels=[1, 2]),
        EditRecord(classes=[0, 1]),
        EditRecord(["a"], {"editor": nn.Linear(1, 1)}),
    ],
)
def test_what_could_not_be_read_again_is_not_written(record: EditRecord, tmp_path: Path) -> None:
    patch = EditPatch.of(nn.Linear(2, 2), {"bias": torch.ones(2)}, record)
    with pytest.raises(UserError, match=r"the patch is not written to '.*a.safetensors', as nobody could read"):
        patch.save(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def changed(path: Path, field: str, value: object) -> None:
    """Write a file again with another value in its metadata; a function is given the JSON that is there."""
    tensors, described = read_tensors(path)  # without the digest, as somebody else may write them
    described[field] = json.dumps(value(json.loads(described[field]))) if callable(value) else str(value)
    save_file(tensors, path, described)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("edits", "no JSON"),
        ("edits", lambda edits: 3),
        ("edits", lambda edits: [{**edits[0], "more": 1}]),
        ("edits", lambda edits: [{**edits[0], "asked": "cat"}]),
        ("edits", lambda edits: [{**edits[0], "labels": [1, 2]}]),
        ("edits", lambda edits: [{**edits[0], "labels": [-1]}]),
        ("edits", lambda edits: [{**edits[0], "made_by": 9}]),
        ("edits", lambda edits: [{**edits[0], "made_by": True}]),
        ("edits", lambda edits: [{**edits[0], "outcome": {"a": "b"}}]),
        ("edits", lambda edits: [{**edits[0], "harm": {"counted": "broken"}}]),
        ("edits", lambda edits: [{**edits[0], "harm": {**edits[0]["harm"], "bound": "low"}}]),
        ("edits", lambda edits: [{**edits[0], "rows": {"codebook": ["a"]}}]),
        ("makers", lambda makers: None),
        ("classes", lambda classes: "cat"),
        ("versions", lambda versions: {"torch": 2}),
        ("tied", lambda tied: {"a": "b"}),
        ("tied", lambda tied: {"a": ["b", 3]}),
        ("tied", lambda tied: [["a", "b"]]),
        ("classes", lambda classes: ["cat", 3]),
        ("layers", lambda layers: [{**layers[0], "kind": "adapter"}]),
        ("layers", lambda layers: [{**layers[0], "settings": {"hidden": 10**9}}]),
        ("layers", lambda layers: "codebook"),
    ],
)
def test_a_field_that_is_not_what_it_was(field: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "edit.safetensors"
    made("codebook").patch.save(path)
    changed(path, field, value)
    with pytest.raises(UserError, match=r"edit.safetensors'"):
        EditPatch.load(path)


@pytest.mark.parametrize(
    "parts",
    [
        {"bias": torch.ones(2)},
        {"bias:indices": torch.ones(2)},
        {"bias:u": torch.ones(2), "bias:v": torch.ones(2)},
        {"bias:xor": torch.ones(2), "bias:rows": torch.ones(2)},
        {"bias:whole": torch.ones(2), "bias:odd": torch.ones(2)},
    ],
)
def test_parts_that_tell_of_no_change(parts: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "edit.safetensors"
    EditPatch.of(nn.Linear(2, 2), {"bias": torch.ones(2)}).save(path)
    _, described = read_tensors(path)
    save_file(parts, path, described)
    with pytest.raises(UserError, match="is a damaged edit patch"):
        EditPatch.load(path)


@pytest.mark.parametrize("name", ["xor", "rows", "whole"])
def test_a_tensor_that_is_not_what_it_was_changes_nothing(name: str, tmp_path: Path) -> None:
    """Also where its shape is another one, or what is packed in it is no such thing."""
    kind = {"xor": "gd", "rows": "neurons", "whole": "codebook"}[name]
    path = tmp_path / "edit.safetensors"
    made(kind).patch.save(path)
    tensors, described = read_tensors(path)
    for key in [key for key in tensors if key.endswith(f":{name}")]:
        own = tensors[key]
        other = own.clone()
        other.view(-1).view(torch.uint8)[0] ^= 1
        for value in (other, own.new_zeros(3, 5, 7), own.flatten()[:0], own.bool()):
            if value.numel() == own.numel() and torch.equal(value.float(), own.float()):
                continue
            save_file({**tensors, key: value.contiguous()}, path, described)
            network = made(kind).network
            before = {some: tensor.clone() for some, tensor in network.state_dict().items()}
            with pytest.raises(UserError):
                EditPatch.load(path).apply_(network)
            assert network.state_dict().keys() == before.keys()
            assert all(torch.equal(tensor, before[some]) for some, tensor in network.state_dict().items())
