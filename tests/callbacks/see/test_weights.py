"""The rewritten weight out of a file, and files that do not belong to the network at hand."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from editable.callbacks.see.weights import read_edited_weight, takes_part
from editable.errors import UserError
from editable.rewriting import LayerBlock
from tests.rewriting.problems import Untouched, conv_network, random


def edited(path: Path, **changes: torch.Tensor) -> str:
    """A file of the network with other tensors."""
    state = copy.deepcopy(conv_network().state_dict())
    for name, tensor in changes.items():
        state[name.replace("__", ".")] = tensor
    save_file(state, path)
    return str(path)


def test_the_rewritten_weight_is_read_and_the_network_stays(tmp_path: Path):
    block, weight = LayerBlock(conv_network(), "second"), random(4, 4, 3, 3, seed=9)
    # What lies behind the block may have changed as well.
    path = edited(tmp_path / "edited.safetensors", second__weight=weight, head__weight=random(3, 5, seed=1))
    with Untouched(block.network):
        assert torch.equal(read_edited_weight(block, path), weight)


def test_lightnings_checkpoints_are_read(tmp_path: Path):
    block, weight = LayerBlock(conv_network(), "second"), random(4, 4, 3, 3, seed=9)
    state = {**conv_network().state_dict(), "second.weight": weight}
    torch.save({"state_dict": {f"network.{name}": tensor for name, tensor in state.items()}}, tmp_path / "a.ckpt")
    assert torch.equal(read_edited_weight(block, str(tmp_path / "a.ckpt")), weight)


@pytest.mark.parametrize("name", ["first__weight", "bn1__running_mean", "bn2__bias"])
def test_files_that_differ_elsewhere_are_refused(tmp_path: Path, name: str):
    block = LayerBlock(conv_network(), "second")
    state = conv_network().state_dict()
    tensors = {"second__weight": random(4, 4, 3, 3, seed=9), name: state[name.replace("__", ".")] + 1}
    path = edited(tmp_path / "edited.safetensors", **tensors)
    expected = rf"differs from the network at hand in 1 tensors .*such as '{name.replace('__', '.')}'"
    with pytest.raises(UserError, match=expected):
        read_edited_weight(block, path)


def test_files_without_a_rewrite_or_of_another_network_are_refused(tmp_path: Path):
    block = LayerBlock(conv_network(), "second")
    with pytest.raises(UserError, match="is that of the network at hand: nothing was rewritten"):
        read_edited_weight(block, edited(tmp_path / "same.safetensors"))
    with pytest.raises(UserError, match="there is no weights file"):
        read_edited_weight(block, str(tmp_path / "nowhere.safetensors"))
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"other\.safetensors"):
        read_edited_weight(block, str(tmp_path / "other.safetensors"))


def test_what_takes_part_is_what_leads_to_the_layer_and_its_block():
    block = LayerBlock(conv_network(), "second")
    parts = {name for name in block.network.state_dict() if takes_part(block, name)}
    own = {f"{module}.{name}" for module in ("bn1", "bn2") for name in block.network.bn1.state_dict()}
    # The network's second convolution has no bias.
    assert parts == {"first.weight", "first.bias", *own}
