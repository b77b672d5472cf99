"""Edited parameters take the place of the network's own in a checkpoint, and nowhere else."""

import torch
from torch import nn

from editable.callbacks.run.kept_edit import put_edited


def test_edited_parameters_are_put_into_the_checkpoint_alone() -> None:
    network = nn.Linear(2, 2)
    own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    checkpoint = {"state_dict": {**state, "editor.rule.decay": torch.tensor(0.5)}, "epoch": 3}
    edited = {"weight": torch.eye(2, requires_grad=True)}
    put_edited(checkpoint, edited)
    put = checkpoint["state_dict"]
    assert torch.equal(put["network.weight"], torch.eye(2))
    assert not put["network.weight"].requires_grad
    assert torch.equal(put["network.bias"], own["bias"])
    assert put["editor.rule.decay"] == 0.5
    assert checkpoint["epoch"] == 3
    edited["weight"].data.zero_()
    assert torch.equal(put["network.weight"], torch.eye(2))
    assert torch.equal(network.weight, own["weight"])
