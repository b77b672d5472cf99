"""What an edit leaves is the edited network, also where it holds a tensor under several names."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from editable.callbacks import AppliedPatches
from editable.callbacks.run.kept_edit import put_edited, write_patch
from editable.editing import EditPatch, EditRecord
from editable.editing.patches.correction_log import read_log
from editable.errors import UserError
from editable.models import SplitNetwork, add_codebook
from tests.quiet_trainer import quiet_trainer


class Shared(nn.Module):
    """One layer under two names, and its weight in a third."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.two = self.one
        self.three = nn.Linear(3, 3)
        self.three.weight = self.one.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.three(self.two(self.one(x).relu()).relu())


@pytest.mark.parametrize("name", ["one.weight", "three.weight"])
def test_checkpoint_patch_and_edit_are_the_same_network(name: str) -> None:
    torch.manual_seed(0)
    network, x, edited = Shared(), torch.randn(5, 3), {name: torch.randn(3, 3)}
    split = SplitNetwork(network, "all")
    expected = split.suffix(split.prefix(x), edited)
    assert not torch.equal(expected, network(x))
    checkpoint = {"state_dict": {f"network.{key}": value.clone() for key, value in network.state_dict().items()}}
    put_edited(checkpoint, network, edited)
    loaded = Shared()
    loaded.load_state_dict({key.removeprefix("network."): value for key, value in checkpoint["state_dict"].items()})
    assert torch.equal(loaded(x), expected)
    with EditPatch.of(network, edited).applied(network):
        assert torch.equal(network(x), expected)


def test_edited_parameters_are_put_into_the_checkpoint_alone() -> None:
    network = nn.Linear(2, 2)
    own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    checkpoint = {"state_dict": {**state, "editor.rule.decay": torch.tensor(0.5)}, "epoch": 3}
    edited = {"weight": torch.eye(2, requires_grad=True)}
    put_edited(checkpoint, network, edited)
    put = checkpoint["state_dict"]
    assert torch.equal(put["network.weight"], torch.eye(2))
    assert not put["network.weight"].requires_grad
    assert torch.equal(put["network.bias"], own["bias"])
    assert put["editor.rule.decay"] == 0.5
    assert checkpoint["epoch"] == 3
    edited["weight"].data.zero_()
    assert torch.equal(put["network.weight"], torch.eye(2))
    assert torch.equal(network.weight, own["weight"])


def test_a_layer_that_the_editor_has_asked_for_is_in_the_checkpoint() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    furnished = add_codebook(copy.deepcopy(network))
    rows = {f"codebook.{name}": torch.cat([some, some]) for name, some in furnished.codebook.named_parameters()}
    state = {f"network.{name}": some for name, some in network.state_dict().items()}
    checkpoint = {"state_dict": {**state, "editor.decay": torch.ones(1)}}
    put_edited(checkpoint, furnished, rows)
    expected = {f"network.{name}" for name in furnished.state_dict()} | {"editor.decay"}
    assert set(checkpoint["state_dict"]) == expected
    furnished.load_state_dict(
        {name.removeprefix("network."): some for name, some in checkpoint["state_dict"].items() if "network" in name}
    )
    assert len(furnished.codebook.thresholds) == 2


def kept(folder: Path, log: bool | str, **settings: object) -> None:
    trainer = quiet_trainer(default_root_dir=folder, **settings)
    record = EditRecord(["a.png: cat → dog"])
    write_patch(trainer, folder / "edit.safetensors", nn.Linear(2, 2), {"bias": torch.ones(2)}, record, "edit", log)


def test_a_log_in_the_runs_folder_in_another_or_none(tmp_path: Path) -> None:
    kept(tmp_path / "a", True)
    base = EditPatch.load(tmp_path / "a" / "edit.safetensors").base
    (line,) = read_log(tmp_path / "a" / "corrections" / f"{base}.jsonl")
    assert (line["asked"], line["command"]) == (["a.png: cat → dog"], "edit")
    kept(tmp_path / "b", str(tmp_path / "logs"))
    assert len(list((tmp_path / "logs").iterdir())) == 1
    kept(tmp_path / "c", False)
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["edit.safetensors"]


def test_corrections_on_patches_are_in_the_log_of_the_unpatched_network(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    first = EditPatch.of(network, {"bias": torch.zeros(2)})
    first.save(tmp_path / "first.safetensors")
    trainer = quiet_trainer(
        default_root_dir=tmp_path, callbacks=[AppliedPatches([str(tmp_path / "first.safetensors")])]
    )
    with first.applied(network):
        path = tmp_path / "second.safetensors"
        write_patch(trainer, path, network, {"bias": torch.ones(2)}, EditRecord(), "edit", True)
    (line,) = read_log(tmp_path / "corrections" / f"{first.base}.jsonl")
    assert (line["network"], line["before"]) == (first.base, first.edited)


def test_a_log_that_cannot_be_written_is_told_and_the_patch_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(UserError, match=r"is kept as '.*edit.safetensors', but cannot be told of in the log '.*/file/"):
        kept(tmp_path, str(tmp_path / "file"))
    assert EditPatch.load(tmp_path / "edit.safetensors").record.asked == ["a.png: cat → dog"]
