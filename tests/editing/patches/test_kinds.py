"""A patch of every kind: exact there and back, on plain and furnished networks, and by the reader in the docs."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from editable.editing import EditPatch
from editable.errors import UserError
from editable.models import CodebookNetwork, add_codebook, add_extra_layer, fingerprint
from tests.editing.patches.kinds import EDITORS, IMAGES, KINDS, copy_of, correct, made, network, record, same
from tests.paths import DOCS

FILES = Path(__file__).parent / "files"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def logits(some: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return some(IMAGES.to(next(some.parameters()).dtype))


def test_it_is_put_in_and_taken_out_bit_for_bit(kind: str, tmp_path: Path) -> None:
    patch, base, expected = made(kind)
    patch.save(tmp_path / "edit.safetensors")
    loaded = EditPatch.load(tmp_path / "edit.safetensors")
    assert (loaded.edits, loaded.layers, loaded.tied) == (patch.edits, patch.layers, patch.tied)
    own = copy.deepcopy(base)
    before, own_kind, objects = copy_of(own), type(own), list(own.parameters())
    with loaded.applied(own):
        assert torch.equal(logits(own), expected)
    assert type(own) is own_kind
    assert same(own, before)
    assert all(now is then for now, then in zip(own.parameters(), objects, strict=True))
    loaded.apply_(own)
    assert torch.equal(logits(own), expected)
    assert fingerprint(own.state_dict()) == patch.edited
    EditPatch.load(tmp_path / "edit.safetensors").revert_(own)
    assert type(own) is own_kind
    assert same(own, before)
    assert all(now is then for now, then in zip(own.parameters(), objects, strict=True)), "who holds them has them"


def reader() -> dict[str, Any]:
    (code,) = re.findall(r"```python\n(import json\n.*?)```", (DOCS / "patch-format.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_the_reader_in_the_documents_reads_it(kind: str, tmp_path: Path) -> None:
    patch, base, _ = made(kind)
    patch.save(tmp_path / "edit.safetensors")
    own = copy.deepcopy(base)
    before = copy_of(own)
    read = reader()["patched"](before, tmp_path / "edit.safetensors")
    patch.apply_(own)
    assert same(own, read)


def test_the_reader_is_short() -> None:
    (code,) = re.findall(r"```python\n(import json\n.*?)```", (DOCS / "patch-format.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 36


def test_the_reader_reads_tied_tensors_and_replaced_rows(tmp_path: Path) -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    tied = nn.Sequential(first, second)
    EditPatch.of(tied, {"1.weight": torch.ones(3, 3)}).save(tmp_path / "tied.safetensors")
    read = reader()["patched"](tied.state_dict(), tmp_path / "tied.safetensors")
    assert torch.equal(read["0.weight"], torch.ones(3, 3))
    assert torch.equal(read["1.weight"], torch.ones(3, 3))
    patch, own, _ = made("codebook")
    own = copy.deepcopy(own)
    patch.apply_(own)
    rows = {name: some.flip(0) for name, some in own.named_parameters() if name.startswith("codebook.")}
    other = EditPatch.of(own, rows)
    other.save(tmp_path / "rows.safetensors")
    read = reader()["patched"](own.state_dict(), tmp_path / "rows.safetensors")
    assert all(torch.equal(read[name], some) for name, some in rows.items())
    before = copy_of(own)
    other.apply_(own)
    assert same(own, read)
    other.revert_(own)
    assert same(own, before)


@pytest.mark.parametrize("kind", ["codebook", "codebook of maps", "neurons"])
def test_who_holds_the_network_has_the_patched_one(kind: str) -> None:
    patch, base, expected = made(kind)
    own = copy.deepcopy(base)
    holder = nn.Sequential(own)
    patch.apply_(own)
    assert torch.equal(logits(holder), expected)
    assert isinstance(own, CodebookNetwork) == kind.startswith("codebook")
    copied = copy.deepcopy(own)
    patch.revert_(copied)
    assert same(copied, copy_of(base))
    assert torch.equal(logits(own), expected)


def test_an_idle_layer_of_the_network_gets_the_values_of_the_patch_and_stays() -> None:
    """As where the network is made with a codebook by its configuration."""
    patch, base, expected = made("codebook")
    own = add_codebook(copy.deepcopy(base))
    names = list(own.state_dict())
    patch.apply_(own)
    assert torch.equal(logits(own), expected)
    patch.revert_(own)
    assert list(own.state_dict()) == names
    assert torch.equal(logits(own), logits(base))


def test_a_patch_of_a_whitened_layer_fits_where_whitening_has_other_last_bits() -> None:
    patch, base, expected = made("extra layer")
    assert "fc.extra_layer.expand.weight:whole" not in patch.names
    for seed in (1, 2):
        torch.manual_seed(seed)
        other = add_extra_layer(copy.deepcopy(base), hidden=16)
        patch.apply_(other)
        assert torch.equal(logits(other), expected)
    wider = add_extra_layer(copy.deepcopy(base), hidden=17)
    before = copy_of(wider)
    with pytest.raises(UserError, match="of other settings"):
        patch.apply_(wider)
    assert same(wider, before)


def test_a_second_edit_of_a_codebook_brings_no_layer() -> None:
    patch, base, _ = made("codebook")
    own = copy.deepcopy(base)
    patch.apply_(own)
    furnished, params, image = correct("codebook", own, 1)
    second = EditPatch.of(furnished, params, record(1))
    assert second.layers == ()
    assert second.record.rows == {"codebook": [0]}
    assert second.num_bytes < patch.num_bytes / 2
    with second.applied(own), torch.no_grad():
        assert own(image).argmax() == base(image).topk(2).indices[0, 1]
    with pytest.raises(UserError, match="was made for other weights"):
        second.apply_(copy.deepcopy(base))
    second.apply_(own)
    with pytest.raises(UserError, match="where it is not idle any more"):
        patch.apply_(own)


def test_a_patch_that_is_there_already_is_said_to_be(kind: str) -> None:
    patch, base, _ = made(kind)
    own = copy.deepcopy(base)
    patch.apply_(own)
    there = copy_of(own)
    with pytest.raises(UserError, match=r"^the patch is in these weights already: leave it out"):
        patch.apply_(own)
    assert same(own, there)


@pytest.mark.filterwarnings("ignore:.torch.jit.*` is deprecated")
def test_a_scripted_network_is_refused() -> None:
    patch, base, _ = made("codebook")
    scripted = torch.jit.trace(copy.deepcopy(base), IMAGES[:1])
    assert scripted.state_dict().keys() == base.state_dict().keys()
    with pytest.raises(UserError, match="cannot take the place of a scripted network"):
        patch.apply_(scripted)


@pytest.mark.parametrize("kind", EDITORS)
def test_taking_out_what_is_not_the_last_is_refused(kind: str) -> None:
    patch, base, _ = made(kind)
    own = copy.deepcopy(base)
    before = copy_of(own)
    with pytest.raises(UserError, match="is not the last one in these weights"):
        patch.revert_(own)
    assert same(own, before)


def test_a_file_of_format_1_is_read(tmp_path: Path) -> None:
    """Written by the version before: bias and weight of a linear layer of known values."""
    patch = EditPatch.load(FILES / "format_1.safetensors")
    assert set(load_file(FILES / "format_1.safetensors")) == {"bias", "weight"}
    own = nn.Linear(3, 2)
    with torch.no_grad():
        own.weight.copy_(torch.arange(6).view(2, 3) / 8)
        own.bias.copy_(torch.tensor([1.0, 2.0]))
    assert (patch.record.asked, patch.record.classes) == (["a.png: cat → dog"], ["cat", "dog"])
    assert patch.record.outcome == {"drawdown": 0.25}
    before = copy_of(own)
    with patch.applied(own):
        assert torch.equal(own.weight, torch.arange(6).view(2, 3) * 3 / 8)
        assert own.bias.tolist() == [0.5, 2.0]
    patch.apply_(own)
    assert own.bias.tolist() == [0.5, 2.0]
    with pytest.raises(UserError, match="is of format 1, which does not tell what there was before"):
        patch.revert_(own)
    patch.save(tmp_path / "anew.safetensors")
    anew = EditPatch.load(tmp_path / "anew.safetensors")
    own.load_state_dict(before)
    anew.apply_(own)
    assert own.bias.tolist() == [0.5, 2.0]


def test_libraries_and_harm_are_told(tmp_path: Path) -> None:
    patch, _, _ = made("gd")
    assert set(patch.versions) == {"editable", "torch", "safetensors", "python"}
    assert patch.versions["torch"] == torch.__version__
    assert patch.record.harm is not None
    assert patch.record.harm.sentence() == "0 of 3 images broken, at most 63.16 % at a level of 95 %"
    assert patch.record.editor == "GD"
    assert "u" in made("rank one").patch.changes["layer4.0.conv2.weight"]


def test_network_is_the_same_each_time() -> None:
    assert same(network(), copy_of(network()))
