"""A tensor under several names is one, however the names came about."""

import pytest
import torch
from torch import nn

from editable.editing import EditPatch
from editable.errors import UserError
from editable.models import SplitNetwork
from editable.models.tied import require_own_memory, spread_tied, tied_names


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


FLAT = torch.arange(12.0)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (FLAT[:4].view(2, 2), FLAT[:4].view(2, 2).T),
        (FLAT[:4], FLAT[2:6]),
        (FLAT[:4], FLAT[:4].view(2, 2)),
        (FLAT[::3], FLAT[3:4]),
        (FLAT[:2], FLAT.view(torch.float64)[:2]),
    ],
    ids=["transposed", "overlapping", "of another shape", "every third", "of another type"],
)
def test_numbers_in_common_in_another_order_are_refused(first: torch.Tensor, second: torch.Tensor):
    """An edit of one would change the other in the network, and not where it was tried."""
    network = nn.Module()
    network.register_buffer("a", first)
    network.register_buffer("b", second)
    for name in "ab":
        with pytest.raises(UserError, match="have numbers in common"):
            require_own_memory(network, [name])
    network.b = second.clone()
    require_own_memory(network, ["a", "b"])


def test_memory_that_is_shared_without_a_number_in_common_is_no_fault():
    matrix = torch.zeros(4, 6)
    network = nn.Module()
    parts = (matrix[:, :2], matrix[:, 2:4], matrix[::2, 4:], matrix[1::2, 4:], matrix[:0], matrix[:, :2])
    for name, part in zip("abcdef", parts, strict=True):
        network.register_buffer(name, part)
    network.g = nn.Parameter(torch.zeros(1, device="meta"))
    require_own_memory(network, "abcdefg")
    network.h = nn.Parameter(matrix[:, 1:3])  # half of one, and half of another
    for name in "abfh":
        with pytest.raises(UserError, match="have numbers in common"):
            require_own_memory(network, name)
    require_own_memory(network, "cdeg")
    assert tied_names(network)["a"] == ("a", "f")


def test_edits_and_patches_of_such_tensors_are_refused():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
    network[1].weight.data.copy_(network[0].weight.data.T)
    patch = EditPatch.of(network, {"0.weight": torch.ones(2, 2)})
    network[1].weight.data = network[0].weight.data.T  # the same values
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for refused in (
        lambda: SplitNetwork(network, "0"),
        lambda: EditPatch.of(network, {"0.weight": torch.ones(2, 2)}),
        lambda: patch.apply_(network),
        lambda: patch.applied(network).__enter__(),
    ):
        with pytest.raises(UserError, match=r"'0.weight' and '1.weight' have numbers in common"):
            refused()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    EditPatch.of(network, {"0.bias": torch.ones(2)}).apply_(network)
    assert network[0].bias.tolist() == [1.0, 1.0]


def test_repeated_numbers_are_refused():
    network = nn.Linear(2, 3)
    network.weight = nn.Parameter(torch.ones(1, 2).expand(3, 2))
    with pytest.raises(UserError, match="'weight' repeats the same numbers"):
        SplitNetwork(network, "weight")
