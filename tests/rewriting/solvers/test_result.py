"""The strength of a rewrite: exactly nothing at 0, exactly the rewrite at 1, the formula in between and beyond."""

import copy

import pytest
import torch
from torch import nn

from editable.errors import UserError
from editable.rewriting.solvers.result import RewriteResult


def make_result(params: dict[str, torch.Tensor]) -> RewriteResult:
    return RewriteResult(params, 1.0, 0.5, 0.0, 1, 0.1, 0.1, 0, 0.0, [])


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))


@pytest.fixture
def result(network: nn.Module) -> RewriteResult:
    return make_result({name: p.detach() + torch.randn_like(p) for name, p in network[0].named_parameters(prefix="0")})


def test_strength_0_is_the_network_bit_for_bit(network: nn.Module, result: RewriteResult):
    for name, tensor in result.scaled(network, 0.0).items():
        assert torch.equal(tensor, network.get_parameter(name))


def test_strength_1_is_the_rewrite_bit_for_bit(network: nn.Module, result: RewriteResult):
    scaled = result.scaled(network, 1.0)
    assert scaled.keys() == result.params.keys()
    for name, tensor in scaled.items():
        assert torch.equal(tensor, result.params[name])


@pytest.mark.parametrize("strength", [0.25, 0.5, 0.9, 1.5, -0.5, 3.0])
def test_strengths_follow_the_formula(network: nn.Module, result: RewriteResult, strength: float):
    network.double()
    result = make_result({name: tensor.double() for name, tensor in result.params.items()})
    for name, tensor in result.scaled(network, strength).items():
        own = network.get_parameter(name).detach()
        torch.testing.assert_close(tensor, own + strength * (result.params[name] - own), rtol=1e-12, atol=1e-14)


def test_nothing_is_written_to_the_network_and_nothing_needs_a_gradient(network: nn.Module, result: RewriteResult):
    before = copy.deepcopy(network.state_dict())
    assert not any(tensor.requires_grad for tensor in result.scaled(network, 0.7).values())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("strength", [float("nan"), float("inf")])
def test_a_strength_that_is_no_finite_number(network: nn.Module, result: RewriteResult, strength: float):
    with pytest.raises(UserError, match="strength must be finite, got"):
        result.scaled(network, strength)


def test_another_network(result: RewriteResult):
    with pytest.raises(UserError, match=r"Linear has no parameter '0.weight' of shape \[5, 7\]: give the network that"):
        result.scaled(nn.Linear(7, 5), 1.0)
    with pytest.raises(UserError, match=r"Sequential has no parameter '0.weight' of shape \[5, 7\]"):
        result.scaled(nn.Sequential(nn.Linear(2, 5)), 1.0)
