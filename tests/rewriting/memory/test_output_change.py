"""How much rewrites change a layer's outputs: against the second moment of unfolded patches."""

import pytest
import torch
from torch.nn import functional

from editable.rewriting import ClosedForm
from editable.rewriting.memory.output_change import relative_output_changes
from tests.rewriting.problems import Untouched, conv_problem, random


def test_against_a_quadratic_form():
    block = conv_problem().block
    images, change = random(7, 3, 6, 6, seed=0), random(4, 4, 3, 3, seed=1)
    weight = block.weight.detach()
    with Untouched(block.network):
        found = relative_output_changes(
            block,
            [images[:5], images[5:]],
            {
                "changed": lambda inputs: block.outputs(inputs, weight + change) - block.outputs(inputs),
                "none": lambda inputs: block.outputs(inputs, weight) - block.outputs(inputs),
            },
        )
    network = block.network.eval()
    patches = (
        functional.unfold(network.relu(network.bn1(network.first(images))), 3, padding=1).transpose(0, 1).flatten(1)
    )
    moment = patches @ patches.T
    squares = [(flat @ moment @ flat.T).trace() for flat in (change.flatten(1), weight.flatten(1))]
    assert found["changed"] == pytest.approx(float((squares[0] / squares[1]).detach().sqrt()), rel=1e-10)
    assert found["none"] == 0


def test_a_bias_is_no_part_of_what_changes_are_relative_to():
    block = conv_problem().block
    block = type(block)(block.network, "third")
    images, change = random(4, 3, 6, 6, seed=0), random(5, 4, 3, 3, seed=1)
    rewrites = {
        "changed": lambda inputs: block.outputs(inputs, change) - block.outputs(inputs, torch.zeros_like(change))
    }
    before = relative_output_changes(block, [images], rewrites)
    with torch.no_grad():
        block.network.third.bias += 10
    assert relative_output_changes(block, [images], rewrites) == pytest.approx(before)


def test_a_layer_that_puts_out_nothing():
    block = conv_problem().block
    with torch.no_grad():
        block.weight.zero_()
    found = relative_output_changes(block, [random(2, 3, 6, 6, seed=0)], {"same": lambda inputs: inputs * 0})
    assert found == {"same": 0}


def test_the_closed_form_of_patches_changes_outputs_least_of_what_meets_the_rule():
    problem = conv_problem("patch")
    images = random(200, 3, 6, 6, seed=5)
    block, exact = problem.block, ClosedForm()(problem).params["second.weight"]
    keys = problem.keys.T
    inputs = block.inputs(images).detach()
    patches = functional.unfold(inputs, 3, padding=1).transpose(0, 1).flatten(1)
    solved = torch.linalg.solve(patches @ patches.T, keys.T).T
    missing = problem.values - problem.matrix @ problem.keys
    least = (problem.matrix + missing @ (solved / (solved @ keys.T))).view_as(block.weight)
    changes = {
        "exact": lambda x: block.outputs(x, least) - block.outputs(x),
        "of another moment": lambda x: block.outputs(x, exact) - block.outputs(x),
    }
    found = relative_output_changes(block, images.split(50), changes)
    assert found["exact"] < found["of another moment"]
