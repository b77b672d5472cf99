"""Copy, paste and context as a rewrite problem."""

import pytest
import torch

from editable.errors import UserError
from editable.rewriting import ClosedForm, ProjectedDescent
from editable.rewriting.keys.paste_problem import PasteRule, paste_problem
from editable.rewriting.keys.selections import Selection, select
from tests.rewriting.generator_rules import (
    FIRST,
    SECOND,
    inverse_of,
    parts_of,
    planted,
    planted_rule,
    spot,
    with_concept,
)


def test_keys_are_those_of_the_context_and_values_those_of_the_copy():
    block, memory, moment = parts_of(planted())
    rule = planted_rule()
    problem = paste_problem(block, memory, rule, inverse_of(moment))
    context = block.inputs(rule.context.latents.double())
    expected = torch.stack([image[:, FIRST[0], FIRST[1]] for image in context]).mean(dim=0)
    torch.testing.assert_close(problem.keys[:, 0], expected)
    copied = block.inputs(rule.copy.latents.double())[0, :, SECOND[0], SECOND[1]]
    torch.testing.assert_close(problem.target_keys[:, 0], copied)
    direction = torch.linalg.solve(moment.mean + 1e-4 * moment.mean.trace() / 4 * torch.eye(4).double(), expected)
    torch.testing.assert_close(problem.directions[:, 0], direction / direction.norm())


def test_copied_features_are_moved_to_the_paste_mask():
    """A float mask of several positions at the border, against a loop over positions."""
    block, memory, moment = parts_of(planted())
    copy_mask, paste_mask = torch.zeros(1, 6, 6), torch.zeros(1, 6, 6)
    copy_mask[0, 3:6, 2:4] = torch.tensor([[1.0, 1.0], [1.0, 0.5], [1.0, 1.0]])
    paste_mask[0, 0:2, 4:6] = torch.tensor([[1.0, 0.25], [1.0, 1.0]])
    rule = PasteRule(
        Selection(with_concept(1, 1), copy_mask), Selection(with_concept(0, 1), paste_mask), planted_rule().context
    )
    problem = paste_problem(block, memory, rule, inverse_of(moment))
    source = select(block, memory, rule.copy, "copy").values[0]
    target = select(block, memory, rule.paste, "paste").values[0]
    weights = [[(row, column, float(mask[row, column])) for row in range(6) for column in range(6)] for mask in
               (copy_mask[0], paste_mask[0])]  # fmt: skip
    centres = [
        [sum(place[axis] * place[2] for place in mask) / sum(place[2] for place in mask) for axis in (0, 1)]
        for mask in weights
    ]
    down, right = (round(centres[1][axis] - centres[0][axis]) for axis in (0, 1))
    expected, shares = target.clone(), torch.zeros(6, 6, dtype=torch.float64)
    for row in range(6):
        for column in range(6):
            from_row, from_column = row - down, column - right
            if 0 <= from_row < 6 and 0 <= from_column < 6:
                share = min(float(copy_mask[0, from_row, from_column]), float(paste_mask[0, row, column]))
                shares[row, column] = share
                mixed = share * source[:, from_row, from_column] + (1 - share) * target[:, row, column]
                expected[:, row, column] = mixed
    assert shares.sum() > 2
    torch.testing.assert_close(problem.value_mask[0], shares)
    torch.testing.assert_close(problem.targets[0], expected)
    difference = (target - expected).abs().mean(dim=0)
    expected_loss = (difference * shares).sum() / shares.sum()
    torch.testing.assert_close(problem.loss(problem.weight), expected_loss)


@pytest.mark.parametrize("architecture", ["pixel", "patch"])
def test_closed_form_recalls_the_copied_value_for_the_context(architecture):
    block, memory, moment = parts_of(planted(), architecture)
    rule = planted_rule()
    problem = paste_problem(block, memory, rule, inverse_of(moment))
    result = ClosedForm()(problem)
    changed = memory.matrix(result.params["conv.weight"])
    keys = [memory.keys(block.inputs(part.latents.double())) for part in (rule.context, rule.copy)]
    key = keys[0][:, :, FIRST[0] * 6 + FIRST[1]].mean(dim=0)
    copied = keys[1][0, :, SECOND[0] * 6 + SECOND[1]]
    torch.testing.assert_close(changed @ key, memory.matrix(block.weight) @ copied)
    assert result.rank == 1


@pytest.mark.parametrize("rank", [1, 2])
def test_projected_descent_draws_the_copied_features(rank: int):
    block, memory, moment = parts_of(planted())
    problem = paste_problem(block, memory, planted_rule(), inverse_of(moment), rank)
    result = ProjectedDescent(learning_rate=0.05, max_steps=300)(problem)
    assert result.loss < 0.3 * result.loss_before
    assert result.rank <= rank
    change = memory.matrix(result.params["conv.weight"] - block.weight)
    torch.testing.assert_close(change @ problem.directions @ problem.directions.T, change)


def test_more_than_one_copied_image():
    block, memory, moment = parts_of(planted())
    rule = planted_rule()._replace(copy=Selection(with_concept(1, 2), spot(SECOND, 2)))
    with pytest.raises(UserError, match="copied from one image, got 2"):
        paste_problem(block, memory, rule, inverse_of(moment))


def test_masks_that_do_not_meet():
    block, memory, moment = parts_of(planted())
    ring = torch.ones(1, 6, 6)
    ring[0, 1:5, 1:5] = 0
    rule = planted_rule()._replace(paste=Selection(with_concept(0, 1), ring))
    with pytest.raises(UserError, match="no position in common"):
        paste_problem(block, memory, rule, inverse_of(moment))
