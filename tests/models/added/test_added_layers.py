"""Layers put in and taken out by a description that a file can hold."""

import copy
import json
from collections.abc import Callable

import pytest
import torch
from torch import nn

from editable.editing import EditPatch
from editable.errors import UserError
from editable.models import add_codebook, add_extra_layer, add_neurons, cifar_resnet
from editable.models.added.added_layers import AddedLayer, added_layers
from editable.models.added.row_layer import row_groups

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
MAKERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "codebook": add_codebook,
    "codebook of maps": lambda network: add_codebook(network, ["layer4.0.conv1", "fc"], margin=2.0),
    "extra layer": lambda network: add_extra_layer(network, hidden=12),
    "neurons": add_neurons,
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return cifar_resnet(num_classes=10, width=4, layers=(1, 1, 1, 1)).eval()


@pytest.fixture(params=MAKERS)
def larger(request: pytest.FixtureRequest) -> nn.Module:
    return MAKERS[request.param](network())


def test_a_description_makes_the_same_layer_and_takes_it_out(larger: nn.Module) -> None:
    (layer,) = added_layers(larger)
    layer = AddedLayer.read(json.loads(json.dumps(layer.written)))
    own = network()
    expected, names = own(X), list(own.state_dict())
    layer.put_in(own)
    assert {name: some.shape for name, some in own.state_dict().items()} == {
        name: some.shape for name, some in larger.state_dict().items()
    }
    assert torch.equal(own(X), expected), "it is idle"
    assert layer.is_idle(own.state_dict())
    assert layer.is_in(own.state_dict())
    assert not own.training
    assert added_layers(own) == [layer]
    assert list(layer.plain(own.state_dict())) == names
    assert [layer.name_without(layer.name_with(name)) for name in names] == names
    assert layer.take_out(own)
    assert list(own.state_dict()) == names
    assert torch.equal(own(X), expected)
    assert added_layers(own) == []


def test_a_layer_that_was_there_from_the_start_stays(larger: nn.Module) -> None:
    (layer,) = added_layers(larger)
    names = list(larger.state_dict())
    assert not layer.take_out(larger)
    assert list(larger.state_dict()) == names


def test_it_is_not_idle_with_rows_or_weights(larger: nn.Module) -> None:
    (layer,) = added_layers(larger)
    state = dict(larger.state_dict())
    if layer.kind == "extra_layer":
        state[f"{layer.prefix}contract.bias"] = torch.ones(32)
    else:
        for name in layer.rows:
            state[name] = torch.cat([state[name], state[name]])
        assert row_groups(state) == {layer.prefix.removesuffix("."): list(layer.rows)}
    assert not layer.is_idle(state)


def test_inside_another_network() -> None:
    own = nn.Sequential(network(), nn.Identity())
    inside = nn.Sequential(add_codebook(network()), nn.Identity())
    (layer,) = added_layers(inside)
    assert (layer.at, layer.prefix, layer.renamed) == ("0", "0.codebook.", {"0.": "0.base."})
    expected = own(X)
    layer.put_in(own)
    assert list(own.state_dict()) == list(inside.state_dict())
    assert torch.equal(own(X), expected)
    assert layer.take_out(own)
    assert torch.equal(own(X), expected)


def test_a_place_that_is_not_there() -> None:
    for make in (add_extra_layer, add_codebook):
        (layer,) = added_layers(make(network()))
        with pytest.raises(UserError, match=r"has no 'fc'|reads 'fc', which Sequential has not"):
            layer.put_in(nn.Sequential(nn.Flatten(), nn.Linear(3, 10)))


CODEBOOK = {"layers": ["fc"], "positions": [[]], "sizes": [32], "classes": 10, "margin": 1.0}


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "adapter"},
        {"at": 3},
        {"prefix": "other."},
        {"renamed": {}},
        {"settings": {}},
        {"settings": {**CODEBOOK, "sizes": [0]}},
        {"settings": {**CODEBOOK, "sizes": [10**9]}},
        {"settings": {**CODEBOOK, "sizes": [True]}},
        {"settings": {**CODEBOOK, "classes": -1}},
        {"settings": {**CODEBOOK, "margin": 0}},
        {"settings": {**CODEBOOK, "margin": "1"}},
        {"settings": {**CODEBOOK, "layers": ["fc", "conv1"]}},
        {"settings": {**CODEBOOK, "positions": [[7]]}},
        {"settings": None},
        {"more": 1},
    ],
)
def test_what_describes_no_layer(change: dict[str, object]) -> None:
    (layer,) = added_layers(add_codebook(network()))
    assert AddedLayer.read(copy.deepcopy(layer.written)) == layer
    with pytest.raises((ValueError, TypeError)):
        AddedLayer.read({**layer.written, **change})


class Memory(nn.Module):
    """A network's own, which calls its parameters as a layer of neurons does."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.keys, self.values = nn.Linear(8, 6), nn.Parameter(torch.randn(rows, 4))


@pytest.mark.parametrize("rows", [6, 3])
def test_other_layers_with_the_same_names_have_no_rows(rows: int) -> None:
    network = nn.Sequential(nn.Linear(2, 8), Memory(rows))
    assert row_groups(network.state_dict()) == {}
    before = {name: value.clone() for name, value in network.state_dict().items()}
    patch = EditPatch.of(network, {"1.values": torch.ones(rows, 4)})
    assert patch.record.rows == {}
    assert list(patch.changes) == ["1.values"]
    patch.apply_(network)
    assert torch.equal(network[1].values, torch.ones(rows, 4))
    patch.revert_(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
