"""The rewrite by formula in the Fourier domain: against one large system of equations, and what cutting keeps."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from editable.errors import UserError
from editable.rewriting import ClosedForm, FourierClosedForm, LayerBlock, RewriteProblem, make_memory
from tests.rewriting.problems import Untouched, conv_problem, linear_problem, random

TAPS = list(itertools.product((-1, 0, 1), repeat=2))


def in_full_size(patches, size):
    """Patches [S, c, 3, 3] on a map, the middle one first, as [S, c, Q, R]."""
    full = patches.new_zeros(*patches.shape[:2], *size)
    for row, column in TAPS:
        full[:, :, row, column] = patches[:, :, row + 1, column + 1]
    return full


def by_lagrange_multipliers(inputs, weight, keys, values, epsilon):
    """Least change Σ ‖(W − W₀) ⋆ A‖² + ρ‖W − W₀‖² of a full-size kernel with W u = v; the taps of a 3×3 kernel."""
    _, channels, height, width = inputs.shape
    columns = [
        torch.roll(inputs[:, channel], (-row, -column), (1, 2)).flatten()
        for channel in range(channels)
        for row, column in itertools.product(range(height), range(width))
    ]
    matrix = torch.stack(columns, dim=1)
    size, number = matrix.shape[1], len(keys)
    moment = matrix.T @ matrix
    system = torch.zeros(size + number, size + number, dtype=torch.float64)
    system[:size, :size] = moment + epsilon * moment.trace() / size * torch.eye(size, dtype=torch.float64)
    constraints = in_full_size(keys, (height, width)).flatten(1)
    system[:size, size:], system[size:, :size] = constraints.T, constraints
    missing = values - weight.flatten(1) @ keys.flatten(1).T
    right = torch.cat([torch.zeros(size, len(weight), dtype=torch.float64), missing.T])
    change = torch.linalg.solve(system, right)[:size].T.reshape(len(weight), channels, height, width)
    return weight + torch.stack([change[:, :, row, column] for row, column in TAPS], dim=2).view_as(weight)


@pytest.mark.parametrize("epsilon", [1e-4, 0.1])
def test_against_brute_force(epsilon):
    problem = conv_problem("patch", reference_images=random(70, 3, 6, 6, seed=9))
    with Untouched(problem.block.network):
        result = FourierClosedForm(epsilon)(problem)
    inputs = problem.block.inputs(problem.reference_images).detach()
    keys = problem.keys.T.reshape(1, 4, 3, 3)
    expected = by_lagrange_multipliers(inputs, problem.weight, keys, problem.values, epsilon)
    torch.testing.assert_close(result.params["second.weight"], expected, rtol=0, atol=1e-9)


def test_cutting_keeps_the_constraints_but_not_the_least_change():
    problem = conv_problem("patch", reference_images=random(70, 3, 6, 6, seed=9))
    exemplars = problem.exemplars._replace(rules=torch.tensor([0, 1, 0]))
    problem = RewriteProblem(
        problem.block, problem.memory, exemplars, problem.inverse, reference_images=problem.reference_images
    )
    result, exact = FourierClosedForm()(problem), ClosedForm()(problem)
    assert result.residual < 1e-10
    inputs = problem.block.inputs(random(200, 3, 6, 6, seed=3)).detach()

    def change(params):
        return functional.conv2d(inputs, params["second.weight"] - problem.weight, padding=1).square().sum()

    assert change(result.params) > 1.01 * change(exact.params)


def test_unsuitable_layers():
    with pytest.raises(UserError, match="needs a convolution, but '0' is a linear layer"):
        FourierClosedForm()(linear_problem())
    with pytest.raises(UserError, match="set architecture to patch"):
        FourierClosedForm()(conv_problem("pixel"))
    with pytest.raises(UserError, match="FourierClosedForm needs reference images"):
        FourierClosedForm()(conv_problem("patch"))
    with pytest.raises(UserError, match="epsilon must be at least 0, got -1"):
        FourierClosedForm(-1)


def test_a_stride():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1)).double()
    block = LayerBlock(network, "0")
    problem = conv_problem("patch")
    exemplars = problem.exemplars._replace(inputs=random(3, 3, 6, 6, seed=0), target_inputs=random(3, 3, 6, 6, seed=1))
    memory = make_memory(tuple(block.weight.shape), block.geometry, "patch")
    strided = RewriteProblem(block, memory, exemplars, problem.inverse, reference_images=random(9, 3, 6, 6, seed=2))
    with pytest.raises(UserError, match="need stride 1"):
        FourierClosedForm()(strided)
