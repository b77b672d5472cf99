"""Λ descent: the closed form on a linear layer, a plain loop on a block, and what any descent promises."""

import contextlib

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional

from editable.errors import UserError
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.solvers.closed_form import ClosedForm
from editable.rewriting.solvers.focus import focused_loss
from editable.rewriting.solvers.lambda_descent import LambdaDescent
from tests.rewriting.problems import Untouched, conv_problem, linear_problem

SMALL = {"learning_rate": 0.05, "max_steps": 60, "patience": 10}


def plain_loss(problem: RewriteProblem, weight: torch.Tensor) -> torch.Tensor:
    """The loss of `conv_problem` written out: 3×3 convolution, BatchNorm by its formula, ReLU, mean under the mask."""
    network, (inputs, target_inputs, mask, _) = problem.block.network, problem.exemplars

    def block(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        norm = network.bn2
        mean, scale = norm.running_mean, norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
        y = functional.conv2d(x, kernel, padding=1)
        return ((y - mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1) + norm.bias.detach().view(1, -1, 1, 1)).clamp(0)

    difference = (block(inputs, weight) - block(target_inputs, network.second.weight.detach())).abs()
    inside = difference[mask[:, None].expand_as(difference) == 1]
    return inside.mean()


def span_of_closed_form(problem: RewriteProblem) -> torch.Tensor:
    solved = problem.inverse.solve(problem.keys)
    return solved / solved.norm(dim=0)


def rows_outside(problem: RewriteProblem, weight: torch.Tensor, directions: torch.Tensor) -> float:
    """How much of a change of the weight lies outside some directions of the keys' space."""
    change = problem.memory.matrix(weight - problem.weight)
    return float((change - change @ directions @ torch.linalg.pinv(directions)).norm() / change.norm())


@pytest.mark.parametrize("num_rules", [1, 2, 4])
def test_reaches_the_closed_form_on_a_linear_layer(num_rules: int):
    problem = linear_problem(num_rules, rank=num_rules)
    result = LambdaDescent()(problem)
    expected = ClosedForm()(problem)
    torch.testing.assert_close(result.params["0.weight"], expected.params["0.weight"], rtol=1e-3, atol=1e-3)
    assert result.rank == num_rules
    assert result.residual < 1e-3


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_the_second_moment_changes_nothing(scale: float):
    one, other = (LambdaDescent(**SMALL)(linear_problem(scale=factor)) for factor in (1.0, scale))
    torch.testing.assert_close(one.params["0.weight"], other.params["0.weight"], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("architecture", ["pixel", "patch"])
def test_equals_a_plain_loop(architecture: str):
    problem = conv_problem(architecture)
    result = LambdaDescent(learning_rate=0.02, max_steps=25, patience=None)(problem)
    direction, original = span_of_closed_form(problem), problem.weight
    coefficients = torch.zeros(problem.memory.value_size, 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([coefficients], 0.02)
    losses, weights = [], []
    for _ in range(26):
        change = coefficients @ direction.T
        if architecture == "pixel":  # rows are filters and taps, columns the channels
            weight = original + change.view(4, 3, 3, 4).permute(0, 3, 1, 2)
        else:
            weight = original + change.view(4, 4, 3, 3)
        loss = plain_loss(problem, weight)
        losses.append(loss.item())
        weights.append(weight.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(result.losses, losses, rtol=1e-9, atol=1e-12)
    best = losses.index(min(losses))
    torch.testing.assert_close(result.params["second.weight"], weights[best], rtol=1e-9, atol=1e-12)
    assert (result.loss_before, result.loss) == pytest.approx((losses[0], losses[best]), rel=1e-9)
    assert result.num_steps == 25


@pytest.mark.parametrize("architecture", ["pixel", "patch"])
@pytest.mark.parametrize("rank", [1, 3])
def test_the_change_stays_in_the_directions(architecture: str, rank: int):
    problem = conv_problem(architecture, rank)
    result = LambdaDescent(**SMALL)(problem)
    assert 0 < result.rank <= rank
    assert rows_outside(problem, result.params["second.weight"], problem.directions) < 1e-12
    assert result.loss < result.loss_before


def test_more_directions_reach_a_lower_loss():
    losses = [LambdaDescent(0.05, patience=10)(conv_problem(rank=rank)).loss for rank in (1, 2, 4)]
    assert losses[0] > losses[1] > losses[2]


def test_a_block_is_rewritten_better_than_its_layer_alone():
    problem = conv_problem()
    assert LambdaDescent(patience=10)(problem).loss < ClosedForm()(problem).loss


def test_only_the_layers_weight_changes_out_of_place():
    problem = conv_problem()
    with Untouched(problem.block.network):
        result = LambdaDescent(**SMALL)(problem)
    assert result.params.keys() == {"second.weight"}
    assert not result.params["second.weight"].requires_grad
    assert result.norm == pytest.approx((result.params["second.weight"] - problem.weight).norm().item(), rel=1e-12)
    assert result.relative_norm == pytest.approx(result.norm / problem.weight.norm().item(), rel=1e-12)


def test_stops_at_a_plateau_long_before_max_steps_and_about_as_low():
    stopped = LambdaDescent()(conv_problem())
    fixed = LambdaDescent(max_steps=600, patience=None)(conv_problem())
    assert stopped.num_steps < 400 < fixed.num_steps == 600
    assert stopped.loss - fixed.loss < 0.02 * (fixed.loss_before - fixed.loss)


def test_the_best_is_returned():
    result = LambdaDescent(learning_rate=0.5, max_steps=39, patience=None)(conv_problem())
    assert result.losses[-1] > min(result.losses)
    assert result.loss == pytest.approx(min(result.losses), rel=1e-9)


def test_a_learning_rate_that_is_too_high_leaves_the_network_as_it_is():
    problem = conv_problem()
    result = LambdaDescent(learning_rate=1e6, patience=5, cuts=0)(problem)
    assert torch.equal(result.params["second.weight"], problem.weight)
    assert result.loss == pytest.approx(result.loss_before, rel=1e-12)  # the same sum, in another order
    assert result.loss_before < max(result.losses)
    assert (result.rank, result.norm) == (0, 0.0)


def test_a_learning_rate_that_is_too_high_is_mended_by_cuts():
    result = LambdaDescent(learning_rate=1e3, patience=10, cuts=6)(conv_problem())
    assert result.loss < 0.9 * result.loss_before


def test_a_loss_that_is_no_longer_finite():
    solver = LambdaDescent()
    solver.learning_rate = 1e308  # which the constructor refuses
    with pytest.raises(UserError, match=r"the loss of LambdaDescent has become (nan|inf) after 1 updates: lower its"):
        solver(linear_problem())


def test_nothing_to_do():
    problem = linear_problem()
    problem = RewriteProblem(
        problem.block,
        problem.memory,
        problem.exemplars._replace(target_inputs=problem.exemplars.inputs),
        problem.inverse,
    )
    result = LambdaDescent()(problem)
    assert torch.equal(result.params["0.weight"], problem.weight)
    assert (result.num_steps, result.losses, result.rank) == (0, [0.0], 0)


def test_no_steps():
    problem = conv_problem()
    result = LambdaDescent(max_steps=0)(problem)
    assert torch.equal(result.params["second.weight"], problem.weight)
    assert (result.num_steps, len(result.losses)) == (0, 1)


def test_progress_is_told_each_loss():
    told = []
    result = LambdaDescent(**SMALL)(conv_problem(), lambda step, loss: told.append((step, loss)))
    assert told == list(enumerate(result.losses))


@pytest.mark.parametrize(
    "context", [torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16), contextlib.nullcontext]
)
def test_the_same_wherever_it_is_called(context):
    expected = LambdaDescent(**SMALL)(conv_problem())
    with context():
        result = LambdaDescent(**SMALL)(conv_problem())
    assert result.losses == expected.losses
    assert torch.equal(result.params["second.weight"], expected.params["second.weight"])


@pytest.mark.parametrize("architecture", ["pixel", "patch"])
def test_gradient_of_the_loss(architecture: str):
    problem = conv_problem(architecture)
    weight = (problem.weight + 0.01).requires_grad_()
    assert gradcheck(problem.loss, (weight,))
    assert gradcheck(focused_loss(problem), (weight,))


def test_the_loss_under_the_mask_alone_is_the_loss():
    problem = conv_problem()
    focused = focused_loss(problem)
    assert focused != problem.loss
    for seed in range(3):
        weight = problem.weight + torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(seed)).double()
        torch.testing.assert_close(focused(weight), plain_loss(problem, weight), rtol=1e-12, atol=0)
        torch.testing.assert_close(problem.loss(weight), plain_loss(problem, weight), rtol=1e-12, atol=0)


def test_the_loss_under_the_mask_alone_is_not_used_where_positions_depend_on_each_other():
    problem = conv_problem()
    network = problem.block.network
    network.relu = nn.Softmax(dim=-1)
    block = LayerBlock(network, "second")
    assert block.stages == ("second", "bn2", "relu")
    changed = RewriteProblem(block, problem.memory, problem.exemplars, problem.inverse)
    assert focused_loss(changed) == changed.loss


@pytest.mark.parametrize("number", [0, -1e-3, float("nan"), float("inf")])
def test_a_learning_rate_out_of_range(number: float):
    with pytest.raises(UserError, match=r"learning_rate must be (positive|finite)"):
        LambdaDescent(learning_rate=number)


def test_other_numbers_out_of_range():
    with pytest.raises(UserError, match="max_steps must be at least 0, got -1"):
        LambdaDescent(max_steps=-1)
    with pytest.raises(UserError, match="cuts must be at least 0, got -1"):
        LambdaDescent(cuts=-1)
    with pytest.raises(UserError, match="patience must be at least 1, got 0"):
        LambdaDescent(patience=0)
    with pytest.raises(UserError, match=r"tolerance must be in \[0, 1\), got 1"):
        LambdaDescent(tolerance=1.0)
