"""A full-size kernel beside a layer: against sums over taps by hand, and what it keeps that cutting loses."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from editable.errors import UserError
from editable.rewriting import ClosedForm, ConvGeometry, FourierClosedForm, LayerBlock
from editable.rewriting.solvers.periodic_change import PeriodicallyChanged, check_periodic_change, rewrite_periodically
from tests.rewriting.problems import Untouched, conv_problem, linear_problem, random


def by_hand(inputs: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """Output p is Σ W[o] A[p + o], a tap at a time."""
    taps = [(row, column) for row in range(inputs.shape[2]) for column in range(inputs.shape[3])]
    return sum(
        torch.einsum("fc,ncqr->nfqr", change[:, :, row, column], inputs.roll((-row, -column), (2, 3)))
        for row, column in taps
    )


def problem_with_references():
    return conv_problem("patch", reference_images=random(70, 3, 6, 6, seed=9))


def test_the_change_is_added_with_periodic_borders():
    layer, inputs, change = (
        nn.Conv2d(2, 3, 3, padding=1).double(),
        random(4, 2, 5, 6, seed=0),
        random(3, 2, 5, 6, seed=1),
    )
    found = PeriodicallyChanged(layer, change)(inputs)
    torch.testing.assert_close(found, layer(inputs) + by_hand(inputs, change), rtol=0, atol=1e-12)
    single = PeriodicallyChanged(layer.float(), change.float())(inputs.float())
    assert single.dtype == torch.float32


def test_its_network_is_the_same_until_it_is_given_the_change():
    problem = problem_with_references()
    network, images = problem.block.network, random(5, 3, 6, 6, seed=3)
    with Untouched(network):
        rewrite = rewrite_periodically(problem)
    variant, change = rewrite.network.eval(), rewrite.result.params["second.change"]
    network.eval()
    assert torch.equal(variant(images), network(images))
    inputs = network.relu(network.bn1(network.first(images)))
    outputs = functional.conv2d(inputs, network.second.weight, padding=1) + by_hand(inputs, change)
    expected = network.head(network.relu(network.third(inputs + network.relu(network.bn2(outputs)))).mean((2, 3)))
    found = functional_call(variant, dict(rewrite.result.params), (images,))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_measures_are_those_of_the_changed_layer():
    problem = problem_with_references()
    result = rewrite_periodically(problem).result
    change, network = result.params["second.change"], problem.block.network.eval()
    inputs, _, mask, _ = problem.exemplars
    outputs = functional.conv2d(inputs, network.second.weight, padding=1) + by_hand(inputs, change)
    differences = (network.relu(network.bn2(outputs)) - problem.targets).abs().mean(1)
    assert result.loss == pytest.approx(float((differences.detach() * mask).sum() / mask.sum()), rel=1e-10)
    assert result.loss_before == pytest.approx(float(problem.loss(problem.weight).detach()), rel=1e-10)
    assert result.residual < 1e-10
    assert result.rank == 1
    assert result.relative_norm == pytest.approx(float(change.norm() / network.second.weight.detach().norm()))


def test_it_is_what_the_cut_kernel_was_cut_from_and_changes_outputs_less():
    problem = problem_with_references()
    change = rewrite_periodically(problem, epsilon=1e-9).result.params["second.change"]
    cut = FourierClosedForm(1e-9)(problem).params["second.weight"] - problem.weight
    taps = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]
    mine = torch.stack([change[:, :, row, column] for row, column in taps], dim=2).view_as(cut)
    torch.testing.assert_close(mine, cut, rtol=0, atol=1e-9)
    exact = ClosedForm()(problem).params["second.weight"] - problem.weight
    inputs = problem.block.inputs(problem.reference_images).detach()
    around = functional.pad(inputs, (1, 1, 1, 1), mode="circular")
    full_size = by_hand(inputs, change).square().sum()
    for small in (cut, exact):
        assert full_size < functional.conv2d(around, small).square().sum()


@pytest.mark.parametrize(
    "geometry",
    [None, ConvGeometry((3, 3), (2, 2), (1, 1)), ConvGeometry((3, 3), (1, 1), (0, 0)), ConvGeometry((2, 2))],
)
def test_layers_whose_outputs_are_of_another_size(geometry):
    with pytest.raises(
        UserError, match="'conv' is no convolution of stride 1 whose outputs are as large as its inputs"
    ):
        check_periodic_change("conv", geometry)


def test_layers_whose_outputs_are_as_large():
    for geometry in (ConvGeometry((3, 3), padding=(1, 1)), ConvGeometry((3, 1), padding=(2, 0), dilation=(2, 1))):
        assert check_periodic_change("conv", geometry) is geometry
    with pytest.raises(UserError, match="'0' is no convolution"):
        rewrite_periodically(linear_problem())
    with pytest.raises(UserError, match="needs reference images"):
        rewrite_periodically(conv_problem("patch"))
    assert LayerBlock(conv_problem().block.network, "second").geometry == ConvGeometry((3, 3), padding=(1, 1))
