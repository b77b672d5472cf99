"""A tensor under several names is one, however the names came about."""

import pytest
import torch
from torch import nn

from editable.models.tied import spread_tied, tied_names


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(2, 2)
        self.b = self.a  # a module under two names
        self.c = nn.Linear(2, 2)
        self.c.weight = self.a.weight  # a parameter in two modules
        self.d = nn.Linear(2, 2)
        self.d.bias.data = self.a.bias.data  # memory of two parameters
        self.e = nn.Linear(2, 2)
        self.e.weight.data = self.a.weight.data.T  # the same memory, but other values


def test_all_names_of_a_tensor_are_found():
    tied = tied_names(Shared())
    assert tied["a.weight"] == tied["c.weight"] == ("a.weight", "b.weight", "c.weight")
    assert tied["d.bias"] == ("a.bias", "b.bias", "d.bias")
    assert tied["e.weight"] == ("e.weight",)


def test_a_value_under_one_name_is_under_all():
    value = torch.ones(2, 2)
    spread = spread_tied(Shared(), {"c.weight": value, "elsewhere": 3})
    assert set(spread) == {"a.weight", "b.weight", "c.weight", "elsewhere"}
    assert all(spread[name] is value for name in ("a.weight", "b.weight", "c.weight"))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op")
def test_empty_tensors_are_not_tied():
    network = nn.Sequential(nn.Linear(0, 1, bias=False), nn.Linear(0, 1, bias=False))
    assert tied_names(network) == {"0.weight": ("0.weight",), "1.weight": ("1.weight",)}
