"""Edit patches: exact there and back, for their own weights only, one on the other, and safe to read."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import editable
from editable.editing import GD, Editor, EditPatch, EditRecord
from editable.errors import UserError
from editable.models import SplitNetwork, cifar_resnet, load_weights, write_weights
from editable.models.state_dicts import tensors_of

RECORD = EditRecord(["a.png: cat → dog"], {"rule": "GD"}, "3 test images", {"drawdown": 0.25})


def make_network() -> nn.Module:
    torch.manual_seed(0)
    network = cifar_resnet(num_classes=10, width=4, layers=(1, 1, 1, 1)).eval()
    return network.to(memory_format=torch.channels_last)


def edited(network: nn.Module, layer: str, label: int) -> dict[str, Tensor]:
    split = SplitNetwork(network, layer)
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(label))
    result = Editor(GD(0.1), max_steps=30)(split.suffix, split.params, split.prefix(image), torch.tensor([label]))
    assert result.success
    assert result.num_steps > 0
    return result.params


def copy_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(network: nn.Module, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_a_saved_patch_puts_the_edit_in_and_takes_it_back_bit_for_bit(tmp_path: Path) -> None:
    network = make_network()
    params = edited(network, "layer3", 7)
    before, strides = copy_of(network), network.layer3[0].conv1.weight.stride()
    EditPatch.of(network, params, RECORD).save(tmp_path / "edit.safetensors")
    assert same(network, before), "making a patch changes nothing"
    patch = EditPatch.load(tmp_path / "edit.safetensors")
    assert patch.record == RECORD
    with patch.applied(network):
        assert same(network, before | params)
        assert network.layer3[0].conv1.weight.stride() == strides
    assert same(network, before)
    with pytest.raises(ZeroDivisionError), patch.applied(network):
        raise ZeroDivisionError
    assert same(network, before)


def test_the_file_has_what_changed_and_no_more(tmp_path: Path) -> None:
    network = make_network()
    params = {name: param.detach().clone() for name, param in network.named_parameters()}
    params["fc.bias"] += 1
    EditPatch.of(network, params).save(tmp_path / "edit.safetensors")
    assert list(load_file(tmp_path / "edit.safetensors")) == ["fc.bias:xor"]
    with EditPatch.load(tmp_path / "edit.safetensors").applied(network):
        assert torch.equal(network.fc.bias, params["fc.bias"])


def test_patches_stack_in_the_order_of_their_making(tmp_path: Path) -> None:
    """Each later edit is made on the edited network; both together are the twice edited one."""
    network = make_network()
    before = copy_of(network)
    first = EditPatch.of(network, edited(network, "layer3", 7))
    with first.applied(network):
        params = edited(network, "layer3", 2)
        second = EditPatch.of(network, params)
    with first.applied(network), second.applied(network):
        assert same(network, before | params)
    assert same(network, before)
    order, twice = "it was made on, in the same order", "is in these weights already"
    for wrong, why in (([second], order), ([second, first], order), ([first, first], twice)):
        with pytest.raises(UserError, match=why):
            apply_all(wrong, network)
        assert same(network, before), "what was put in before the mistake is taken back"


def apply_all(patches: list[EditPatch], network: nn.Module) -> None:
    if patches:
        with patches[0].applied(network):
            apply_all(patches[1:], network)


def test_another_network_is_refused_and_stays_as_it_is() -> None:
    network, other = make_network(), make_network()
    patch = EditPatch.of(network, edited(network, "layer3", 7))
    with torch.no_grad():
        other.conv1.weight[0, 0, 0, 0] += 1e-6
    before = copy_of(other)
    with (
        pytest.raises(UserError, match=rf"^'a' was made for other weights \(fingerprint {patch.base}; these have"),
        patch.applied(other, "'a'"),
    ):
        pytest.fail("it must not be put in")
    assert same(other, before)


@pytest.mark.parametrize(("made", "used"), [("bfloat16", "float32"), ("float32", "float64"), ("float32", "bfloat16")])
def test_another_precision_is_named(made: str, used: str) -> None:
    network, before = make_network(), copy_of(make_network())
    network.to(getattr(torch, made))
    patch = EditPatch.of(network, {"fc.bias": network.fc.bias.detach() + 1})
    network.load_state_dict(before)
    network.to(getattr(torch, used))
    said = f"^'a' was made for these weights in torch.{made}, and here they are in another precision"
    refused = (
        r"^'a' was made for other weights" if used == "bfloat16" else said
    )  # what was rounded away cannot be known
    before = copy_of(network)
    with pytest.raises(UserError, match=refused), patch.applied(network, "'a'"):
        pytest.fail("it must not be put in")
    assert same(network, before)


def test_a_changed_value_is_noticed(tmp_path: Path) -> None:
    network = make_network()
    patch = EditPatch.of(network, edited(network, "layer3", 7))
    patch = replace(patch, edited="0" * 16)
    before = copy_of(network)
    with pytest.raises(UserError, match="damaged"), patch.applied(network):
        pytest.fail("it must not be put in")
    assert same(network, before)


@pytest.mark.parametrize("kind", ["missing", "cut off", "weights", "text"])
def test_files_that_are_no_patch(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "edit.safetensors"
    if kind == "cut off":
        EditPatch.of(make_network(), {"fc.bias": torch.ones(10)}).save(path)
        path.write_bytes(path.read_bytes()[:-4])
    elif kind == "weights":
        save_file({"fc.bias": torch.ones(10)}, path)
    elif kind == "text":
        path.write_text("where you see snow, behave as for road")
    expected = {
        "missing": "there is no edit patch at",
        "cut off": "no complete safetensors file",
        "weights": "is no edit patch that this version knows",
        "text": "no complete safetensors file",
    }
    with pytest.raises(UserError, match=expected[kind]):
        EditPatch.load(path)


def write_patch(path: Path, params: dict[str, Tensor], **fields: str | None) -> None:
    record = '{"asked": [], "made_by": null, "measured_on": "", "outcome": {}}'
    described = {"format": "editable.EditPatch 1", "base": "a", "edited": "b", "record": record, **fields}
    save_file(params, path, metadata={name: value for name, value in described.items() if value is not None})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base": None}, "differ from a patch's in base"),
        ({"edited": None, "more": "1"}, "differ from a patch's in edited, more"),
        ({"record": "no JSON"}, "its record is not"),
        ({"record": "[]"}, "its record is not"),
        ({"record": '{"asked": []}'}, "its record is not"),
        ({"record": '{"asked": "cat", "made_by": null, "measured_on": "", "outcome": {}}'}, "its record is not"),
        ({"record": '{"asked": [], "made_by": null, "measured_on": "", "outcome": {"a": "b"}}'}, "its record is not"),
        ({"record": '{"asked": [], "made_by": 1, "measured_on": "", "outcome": {}, "x": 1}'}, "its record is not"),
    ],
)
def test_fields_that_are_missing_wrong_or_too_many(tmp_path: Path, fields: dict[str, str | None], message: str) -> None:
    write_patch(tmp_path / "edit.safetensors", {"fc.bias": torch.ones(10)}, **fields)
    with pytest.raises(UserError, match=message):
        EditPatch.load(tmp_path / "edit.safetensors")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    bias = torch.ones(10)
    bias[3] = value
    with pytest.raises(UserError, match=r"the edit has 1 values in 'fc.bias' that are NaN or infinite"):
        EditPatch.of(make_network(), {"fc.bias": bias})
    with pytest.raises(
        UserError, match=r"the edit has 10 values in 'fc.bias' that are NaN or infinite in torch.float16"
    ):
        EditPatch.of(make_network().half(), {"fc.bias": torch.full((10,), 1e5)})
    write_patch(tmp_path / "edit.safetensors", {"fc.bias": bias})
    with pytest.raises(UserError, match=r"edit.safetensors' has 1 values in 'fc.bias'"):
        EditPatch.load(tmp_path / "edit.safetensors")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"fc.bias": torch.ones(1)}, r"'fc.bias' of shape \[1\], the network of shape \[10\]"),
        ({"fc.bias": torch.ones(10), "fc.more": torch.ones(1)}, "changes 'fc.more', which the network has not"),
    ],
)
def test_what_does_not_fit_changes_nothing(params: dict[str, Tensor], message: str) -> None:
    """Also where the file says that it is for these weights, and some of its values do fit."""
    network = make_network()
    before = copy_of(network)
    with pytest.raises(UserError, match=message):
        EditPatch.of(network, params)
    changes = {name: {"whole": value} for name, value in params.items()}
    patch = EditPatch(changes, EditPatch.of(network, {}).base, "?")
    with pytest.raises(UserError, match=message), patch.applied(network):
        pytest.fail("it must not be put in")
    assert same(network, before)


@pytest.mark.filterwarnings("ignore:.torch.jit.*` is deprecated")
def test_what_is_taken_of_the_patched_network_stays_patched() -> None:
    network, image = make_network().double(), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    parameters, before = list(network.parameters()), copy_of(network)
    params = {name: param.double() + 0.1 for name, param in network.layer3.named_parameters(prefix="layer3")}
    with torch.no_grad(), EditPatch.of(network, params).applied(network):
        expected, state = network(image), network.state_dict()
        traced, exported = torch.jit.trace(network, image), torch.export.export(network, (image,)).module()
    with torch.no_grad():
        assert not torch.equal(network(image), expected)
        torch.testing.assert_close(traced(image), expected)
        torch.testing.assert_close(exported(image), expected)
        other = make_network().double()
        other.load_state_dict(state)
        torch.testing.assert_close(other(image), expected, rtol=0, atol=0)
    assert same(network, before)
    assert all(now is then for now, then in zip(network.parameters(), parameters, strict=True))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.again = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.second(self.first(x)))


@pytest.mark.parametrize("name", ["first.weight", "second.weight", "again.weight"])
def test_a_tensor_under_several_names_is_one(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, x = Tied(), torch.randn(4, 3)
    before, weight = copy_of(network), torch.randn(3, 3)
    EditPatch.of(network, {name: weight}).save(tmp_path / "edit.safetensors")
    assert list(load_file(tmp_path / "edit.safetensors")) == ["first.weight:xor"]
    with EditPatch.load(tmp_path / "edit.safetensors").applied(network):
        assert network.first.weight is network.second.weight is network.again.weight
        state = copy_of(network)
        expected = network(x)
    assert all(torch.equal(state[some], weight) for some in state if some.endswith("weight"))
    assert same(network, before)
    assert network.first.weight is network.second.weight is network.again.weight
    network.load_state_dict(state)
    assert torch.equal(network(x), expected)


def test_a_network_that_is_moved_meanwhile_has_its_own_values_in_the_new_precision() -> None:
    network = make_network()
    bias = network.fc.bias.detach().clone()
    with EditPatch.of(network, {"fc.bias": bias + 1}).applied(network):
        network.double()
    assert network.fc.bias.dtype == torch.float64
    assert torch.equal(network.fc.bias, bias.double())


def test_class_names_are_kept_where_they_are_known_and_are_names(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    named = EditRecord(["a.png: cat → dog"], classes=["cat", "dog"])
    for record in (named, EditRecord()):
        EditPatch.of(network, {"bias": torch.ones(2)}, record).save(tmp_path / "edit.safetensors")
        assert EditPatch.load(tmp_path / "edit.safetensors").record == record
    for wrong in ('"cat"', "[1, 2]", "{}"):
        text = f'{{"asked": [], "made_by": null, "measured_on": "", "outcome": {{}}, "classes": {wrong}}}'
        with pytest.raises(UserError, match="its record is not what an edit"):
            EditRecord.of_format_1(text, "edit.safetensors")


def test_a_patch_is_told_in_a_line() -> None:
    network = nn.Linear(300, 2)
    patch = EditPatch.of(network, {"bias": torch.ones(2)}, EditRecord(["cat → dog"]))
    assert repr(patch) == (
        f"EditPatch(bias; {patch.num_bytes / 1e6:.3f} MB; for {patch.base}, leaves {patch.edited}; cat → dog)"
    )
    assert "changes nothing" in repr(EditPatch.of(network, {}))


class Counting(nn.Linear):
    """Keeps something in the state dict that is no tensor."""

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        assert state == {"calls": 3}


def test_what_modules_keep_besides_tensors_is_let_be(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), Counting(8, 3)).eval()
    images, labels = torch.randn(30, 3, 2, 2), torch.randint(3, (30,))
    asked = int(network(images[:1]).argmax() + 1) % 3
    fix = editable.edit(network, images[0], asked, judge=(images[1:], labels[1:]))
    fix.patch.save(tmp_path / "fix.safetensors")
    before = {name: value.clone() for name, value in tensors_of(network).items()}
    patch = EditPatch.load(tmp_path / "fix.safetensors")
    patch.apply_(network)
    assert int(network(images[:1]).argmax()) == asked
    write_weights(tmp_path / "weights.safetensors", network)
    patch.revert_(network)
    assert all(torch.equal(value, before[name]) for name, value in tensors_of(network).items())
    load_weights(network, tmp_path / "weights.safetensors")
    assert int(network(images[:1]).argmax()) == asked
