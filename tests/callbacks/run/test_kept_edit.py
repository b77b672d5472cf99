"""What an edit leaves is the edited network, also where it holds a tensor under several names."""

import pytest
import torch
from torch import nn

from editable.callbacks.run.kept_edit import put_edited
from editable.editing import EditPatch
from editable.models import SplitNetwork


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
