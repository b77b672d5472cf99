"""Edit patches: exact there and back, for their own weights only, one on the other, and safe to read."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from editable.editing import GD, Editor, EditPatch, EditRecord
from editable.errors import UserError
from editable.models import SplitNetwork, cifar_resnet

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


def test_the_file_has_the_new_values_of_what_changed_and_no_more(tmp_path: Path) -> None:
    network = make_network()
    params = {name: param.detach().clone() for name, param in network.named_parameters()}
    params["fc.bias"] += 1
    EditPatch.of(network, params).save(tmp_path / "edit.safetensors")
    values = load_file(tmp_path / "edit.safetensors")
    assert list(values) == ["fc.bias"]
    torch.testing.assert_close(values["fc.bias"], network.fc.bias.detach() + 1, rtol=0, atol=0)


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
    for wrong in ([second], [second, first], [first, first]):
        with pytest.raises(UserError, match="it was made on, in the same order"):
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


def test_a_changed_value_is_noticed(tmp_path: Path) -> None:
    network = make_network()
    patch = EditPatch.of(network, edited(network, "layer3", 7))
    patch.params["layer3.0.conv1.weight"].view(-1)[0] += 1
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
        "weights": "is no edit patch of this version",
        "text": "no complete safetensors file",
    }
    with pytest.raises(UserError, match=expected[kind]):
        EditPatch.load(path)
