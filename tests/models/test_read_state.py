"""A state dict found in a file of weights by its fingerprint."""

from pathlib import Path

import pytest
import torch
from torch import nn

from editable.errors import UserError
from editable.models import fingerprint, write_weights
from editable.models.weights import read_state


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state},
        lambda state: {f"module.{name}": some for name, some in state.items()},
        lambda state: {
            "epoch": 3,
            "state_dict": {"editor.decay": torch.ones(1), **{f"network.{name}": some for name, some in state.items()}},
        },
        lambda state: {"ema": {name: some + 1 for name, some in state.items()}, "model": state},
    ],
)
def test_it_is_found_wherever_it_is(wrap, tmp_path: Path) -> None:
    state = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()
    torch.save(wrap(dict(state)), tmp_path / "a.pt")
    found = read_state(tmp_path / "a.pt", fingerprint(state))
    assert found.keys() == state.keys()
    assert all(torch.equal(some, state[name]) for name, some in found.items())


def test_others_are_refused(tmp_path: Path) -> None:
    network = nn.Linear(2, 3)
    write_weights(tmp_path / "a.safetensors", network)
    own = fingerprint(network.state_dict())
    assert read_state(tmp_path / "a.safetensors", own).keys() == {"weight", "bias"}
    with pytest.raises(UserError, match=rf"fingerprint 0123; these have {own}"):
        read_state(tmp_path / "a.safetensors", "0123")
    torch.save([1, 2], tmp_path / "b.pt")
    with pytest.raises(UserError, match="these have None"):
        read_state(tmp_path / "b.pt", own)
