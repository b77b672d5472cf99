"""A layer of neurons behind a classifier: silent at first, its rows add by the formula, names and states stay."""

import copy

import pytest
import torch
from torch import nn

from editable.errors import UserError
from editable.models import Neurons, SplitNetwork, add_codebook, add_neurons, select_parameters


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 4)).double()


@pytest.fixture
def network() -> nn.Module:
    return add_neurons(small_network())


IMAGES = torch.randn(9, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def with_rows(network: nn.Module, rows: int) -> nn.Module:
    generator = torch.Generator().manual_seed(2)
    neurons = network.get_submodule("3.neurons")
    neurons.resize(rows)
    for param in neurons.parameters():
        param.data.copy_(torch.randn(param.shape, generator=generator, dtype=torch.float64))
    return network


def test_it_computes_what_it_did_and_names_stay(network: nn.Module):
    plain = small_network()
    assert torch.equal(network(IMAGES), plain(IMAGES))
    names = [name for name, _ in network.named_parameters()]
    new = ["3.neurons.values", "3.neurons.keys.weight", "3.neurons.keys.bias"]
    assert names == [name for name, _ in plain.named_parameters()] + new
    assert sorted(select_parameters(network, "neurons")) == sorted(new)
    assert "features=6, classes=4, rows=0" in repr(network)


@torch.no_grad()
def test_rows_add_what_the_formula_says(network: nn.Module):
    neurons = with_rows(network, 3).get_submodule("3.neurons")
    plain = small_network()
    for image, logits in zip(IMAGES, network(IMAGES), strict=True):
        hidden = plain[:3](image[None])[0]
        expected = plain[3](hidden)
        for u, b, v in zip(neurons.keys.weight, neurons.keys.bias, neurons.values, strict=True):
            fired = float(u @ hidden + b)
            expected = expected + (v * fired if fired > 0 else 0.0)
        torch.testing.assert_close(logits, expected)


def test_more_rows_in_place_of_its_own_and_from_a_state(network: nn.Module):
    larger = with_rows(copy.deepcopy(network), 5)
    assert torch.equal(add_neurons(small_network())(IMAGES), network(IMAGES))
    split = SplitNetwork(network, "neurons")
    params = {name: larger.get_parameter(name) for name in split.names}
    assert torch.equal(split.suffix(split.prefix(IMAGES), params), larger(IMAGES))
    network.load_state_dict(larger.state_dict())
    assert torch.equal(network(IMAGES), larger(IMAGES))
    assert len(network.get_submodule("3.neurons").values) == 5


def test_mistakes(network: nn.Module):
    with pytest.raises(UserError, match="Sequential has neurons behind its classifier already"):
        add_neurons(network)
    with pytest.raises(UserError, match="CodebookNetwork has a codebook behind its classifier already"):
        add_neurons(add_codebook(small_network()))
    with pytest.raises(UserError, match="a layer of neurons goes with a linear layer, but '2' of Sequential is a ReLU"):
        add_neurons(small_network(), "2")
    with pytest.raises(UserError, match="features must be positive, got 0"):
        Neurons(0, 3)
