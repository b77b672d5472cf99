"""Erasing as a rewrite problem."""

import pytest
import torch

from editable.errors import UserError
from editable.rewriting import ProjectedDescent
from editable.rewriting.keys.erase_problem import EraseRule, channel_scores, erase_problem
from editable.rewriting.keys.selections import Selection
from tests.rewriting.generator_rules import FIRST, inverse_of, parts_of, planted, spot, with_concept


def erasing(channels: int = 1) -> EraseRule:
    return EraseRule(Selection(with_concept(0, 4), spot(FIRST, 4)), channels)


def test_scores_are_mean_squares_against_the_usual_ones():
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    weights = torch.rand(3, 5, generator=generator, dtype=torch.float64)
    usual = torch.tensor([1.0, 2.0, 0.5, 0.0], dtype=torch.float64)
    keys[:, 3] = 0
    expected = [0.0] * 4
    for channel in range(3):
        inside = sum(float(weights[n, p] * keys[n, channel, p] ** 2) for n in range(3) for p in range(5))
        expected[channel] = inside / float(weights.sum()) / float(usual[channel])
    torch.testing.assert_close(channel_scores(keys, weights, torch.diag(usual)), torch.tensor(expected).double())


def test_the_channel_that_draws_the_concept_is_taken_out_inside_the_mask():
    block, memory, moment = parts_of(planted())
    rule = erasing()
    problem = erase_problem(block, memory, rule, moment, inverse_of(moment))
    expected = block.inputs(rule.context.latents.double()).clone()
    expected[:, 0, FIRST[0], FIRST[1]] = 0  # the planted channel; it is zero elsewhere anyway
    torch.testing.assert_close(problem.exemplars.target_inputs, expected)
    torch.testing.assert_close(problem.targets, block.values(expected))


def test_erasing_makes_the_context_look_like_without():
    block, memory, moment = parts_of(planted())
    problem = erase_problem(block, memory, erasing(), moment, inverse_of(moment))
    result = ProjectedDescent(learning_rate=0.05, max_steps=300)(problem)
    assert result.loss < 0.3 * result.loss_before


def test_unfit_rules():
    block, memory, moment = parts_of(planted())
    inverse = inverse_of(moment)
    with pytest.raises(UserError, match="channels must be at least 1, got 0"):
        erase_problem(block, memory, erasing(0), moment, inverse)
    with pytest.raises(UserError, match="reads 4 channels, so 5 cannot be erased"):
        erase_problem(block, memory, erasing(5), moment, inverse)
    block, patches, moment = parts_of(planted(), "patch")
    with pytest.raises(UserError, match="choose the architecture 'pixel'"):
        erase_problem(block, patches, erasing(), moment, inverse_of(moment))
