"""A rewrite problem's keys, values, directions and loss, by their formulas."""

import pytest
import torch
from torch import nn

from editable.errors import UserError
from editable.models import cifar_resnet
from editable.rewriting.keys.exemplars import Exemplars
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.inverse_moment import InverseMoment, Regularisation
from editable.rewriting.memory.memory import make_memory


def make_problem(architecture="pixel", layer="layer2.0.conv2", num_exemplars=3, **options):
    torch.manual_seed(0)
    network = cifar_resnet(width=2, layers=(1, 1, 1, 1)).double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
    block = LayerBlock(network, layer)
    memory = make_memory(tuple(block.weight.shape), block.geometry, architecture)
    images = torch.randn(num_exemplars, 3, 16, 16, dtype=torch.float64)
    mask = torch.zeros(num_exemplars, 16, 16, dtype=torch.float64)
    mask[:, 4:11, 2:] = 1
    with torch.no_grad():
        inputs = block.inputs(images)
        target_inputs = block.inputs(images.flip(-1))
        keys = memory.keys(block.inputs(torch.randn(50, 3, 16, 16, dtype=torch.float64)))
    exemplars = Exemplars(inputs, target_inputs, mask, options.pop("rules", None))
    moment = torch.einsum("ncp,ndp->cd", keys, keys)
    inverse = InverseMoment(moment, Regularisation(epsilon=1e-6))
    return RewriteProblem(block, memory, exemplars, inverse, **options)


@pytest.mark.parametrize("architecture", ["pixel", "patch"])
def test_keys_values_and_directions(architecture):
    problem = make_problem(architecture)
    inputs, target_inputs, mask, _ = problem.exemplars
    # The map of both memories is 8×8 here: cells of 2×2 pixels.
    weights = mask.view(3, 8, 2, 8, 2).mean((2, 4)).view(3, 64)
    for found, features in ((problem.keys, inputs), (problem.target_keys, target_inputs)):
        keys = problem.memory.keys(features)
        wanted = sum(w * k for i in range(3) for w, k in zip(weights[i], keys[i].T, strict=True)) / weights.sum()
        torch.testing.assert_close(found[:, 0], wanted)
    wanted = problem.memory.matrix(problem.block.weight.detach()) @ problem.target_keys
    torch.testing.assert_close(problem.values, wanted)
    direction = problem.inverse.solve(problem.keys)
    torch.testing.assert_close(problem.directions.abs(), (direction / direction.norm()).abs())


def test_one_key_for_each_rule():
    problem = make_problem(rules=torch.tensor([0, 1, 0]), rank=2)
    single = make_problem(num_exemplars=3)
    assert problem.keys.shape == (4, 2)
    both = problem.key_weights
    keys = problem.memory.keys(problem.exemplars.inputs)
    torch.testing.assert_close(problem.keys[:, 1], (keys[1] * both[1]).sum(1) / both[1].sum())
    # Exemplars have masks of the same size: the mean over all is the mean over rules, weighted by their number.
    torch.testing.assert_close((2 * problem.keys[:, 0] + problem.keys[:, 1]) / 3, single.keys[:, 0])
    torch.testing.assert_close(problem.directions.T @ problem.directions, torch.eye(2, dtype=torch.float64))
    assert problem.num_rules == 2


def test_more_directions_than_rules_are_orthonormal():
    directions = make_problem(rank=3).directions
    assert directions.shape == (4, 3)
    torch.testing.assert_close(directions.T @ directions, torch.eye(3, dtype=torch.float64))


def test_loss_is_the_mean_absolute_difference_inside_the_mask():
    problem = make_problem()
    block = problem.block
    weight = block.weight.detach() * 1.1
    with torch.no_grad():
        differences = (
            block.values(problem.exemplars.inputs, weight) - block.values(problem.exemplars.target_inputs)
        ).abs()
    mask = problem.exemplars.mask.view(3, 8, 2, 8, 2).mean((2, 4))
    total = sum(
        mask[n, i, j] * differences[n, f, i, j] for n in range(3) for f in range(4) for i in range(8) for j in range(8)
    )
    torch.testing.assert_close(problem.loss(weight), total / (4 * mask.sum()))
    weight.requires_grad_()
    assert torch.autograd.gradcheck(problem.loss, weight)


def test_without_a_change_of_inputs_there_is_nothing_to_do():
    problem = make_problem()
    same = Exemplars(problem.exemplars.inputs, problem.exemplars.inputs, problem.exemplars.mask)
    problem = RewriteProblem(problem.block, problem.memory, same, problem.inverse)
    assert problem.loss(problem.block.weight).item() == 0
    torch.testing.assert_close(problem.matrix @ problem.keys, problem.values, rtol=1e-12, atol=1e-14)


def test_linear_layers_read_whole_vectors():
    problem = make_problem(layer="fc")
    torch.testing.assert_close(problem.keys[:, 0], problem.exemplars.inputs.mean(0))
    assert problem.value_mask.shape == (3,)
    problem.loss(problem.block.weight).backward()


def remade(**changes):
    problem = make_problem()
    exemplars = problem.exemplars._replace(
        **{name: change(getattr(problem.exemplars, name)) for name, change in changes.items()}
    )
    return RewriteProblem(problem.block, problem.memory, exemplars, problem.inverse)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": lambda x: x[:2]}, "exemplars need inputs and target inputs of one shape"),
        ({"mask": lambda x: x[:2]}, r"3 exemplars need masks \[3, h, w\], got \[2, 16, 16\]"),
        ({"inputs": lambda x: x * float("nan")}, "the inputs of 'layer2.0.conv2' are not finite"),
        ({"target_inputs": lambda x: x / 0}, "the target inputs of 'layer2.0.conv2' are not finite"),
        ({"rules": lambda _: torch.tensor([0, 2, 2])}, r"rules are numbered from 0 without gaps, got \[0, 2, 2\]"),
    ],
)
def test_what_does_not_fit(changes, message):
    with pytest.raises(UserError, match=message):
        remade(**changes)


def test_an_empty_mask():
    with pytest.raises(UserError, match="empty"):
        _ = remade(mask=torch.zeros_like).keys


@pytest.mark.parametrize(
    ("rank", "message"), [(0, "rank must be at least 1"), (5, "rank is 5, but keys .* have only 4")]
)
def test_ranks_that_cannot_be(rank, message):
    with pytest.raises(UserError, match=message):
        make_problem(rank=rank)
