"""Projected descent: the closed form on a linear layer, a plain loop on a block, and an exact projection."""

import pytest
import torch

from editable.errors import UserError
from editable.rewriting.solvers.closed_form import ClosedForm
from editable.rewriting.solvers.lambda_descent import LambdaDescent
from editable.rewriting.solvers.projected_descent import ProjectedDescent, project_change
from tests.rewriting.problems import Untouched, conv_problem, linear_problem, random
from tests.rewriting.solvers.test_lambda_descent import plain_loss, rows_outside


def test_projection_keeps_what_orthogonal_keys_recall():
    matrix, original = random(5, 9, seed=0), random(5, 9, seed=1)
    basis = torch.linalg.qr(random(9, 9, seed=2)).Q
    inside, outside = basis[:, :3], basis[:, 3:]
    projected = project_change(matrix, original, inside)
    torch.testing.assert_close(projected @ outside, original @ outside, rtol=0, atol=1e-12)
    torch.testing.assert_close(projected @ inside, matrix @ inside, rtol=0, atol=1e-12)
    published = original @ (torch.eye(9, dtype=torch.float64) - inside @ inside.T) + matrix @ inside @ inside.T
    torch.testing.assert_close(projected, published, rtol=0, atol=1e-12)
    torch.testing.assert_close(project_change(projected, original, inside), projected, rtol=0, atol=1e-12)


def test_projection_leaves_an_unchanged_memory_as_it_is():
    original = random(5, 9, seed=1)
    directions = torch.linalg.qr(random(9, 2, seed=2)).Q
    assert torch.equal(project_change(original, original, directions), original)


@pytest.mark.parametrize("num_rules", [1, 2, 4])
def test_reaches_the_closed_form_on_a_linear_layer(num_rules: int):
    problem = linear_problem(num_rules, rank=num_rules)
    result = ProjectedDescent(learning_rate=0.02, cuts=3)(problem)
    expected = ClosedForm()(problem)
    torch.testing.assert_close(result.params["0.weight"], expected.params["0.weight"], rtol=1e-3, atol=1e-3)
    assert result.rank == num_rules
    assert result.residual < 1e-3


def test_reaches_the_closed_form_also_by_the_published_rule():
    problem = linear_problem()
    result = ProjectedDescent(learning_rate=0.05, project_gradient=False)(problem)
    torch.testing.assert_close(
        result.params["0.weight"], ClosedForm()(problem).params["0.weight"], rtol=1e-3, atol=1e-3
    )


def projector(problem, architecture: str):
    """P = DDᵀ on a kernel [f, c, m, n]: on the channels at every tap, or on the flattened patch."""
    direction = problem.inverse.solve(problem.keys)[:, 0]
    direction = direction / direction.norm()
    if architecture == "pixel":
        return lambda kernel: torch.einsum("fcmn,c,d->fdmn", kernel, direction, direction)
    patch = direction.view(4, 3, 3)
    return lambda kernel: torch.einsum("fcmn,cmn,dop->fdop", kernel, patch, patch)


@pytest.mark.parametrize("architecture", ["pixel", "patch"])
@pytest.mark.parametrize("project_gradient", [False, True])
def test_equals_a_plain_loop(architecture: str, project_gradient: bool):
    problem = conv_problem(architecture)
    result = ProjectedDescent(0.02, max_steps=25, patience=None, project_gradient=project_gradient)(problem)
    onto, original = projector(problem, architecture), problem.weight
    weight = original.clone().requires_grad_()
    optimizer = torch.optim.Adam([weight], 0.02)
    losses, kept = [], {}
    for step in range(1, 26):
        loss = plain_loss(problem, weight)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        if project_gradient:
            weight.grad = onto(weight.grad)
        optimizer.step()
        if step in (10, 20, 25):
            with torch.no_grad():
                weight.copy_(original - onto(original) + onto(weight))
            kept[step] = weight.detach().clone()
    losses.append(plain_loss(problem, weight).item())
    torch.testing.assert_close(result.losses, losses, rtol=1e-9, atol=1e-12)
    best = min(kept, key=lambda step: losses[step])
    torch.testing.assert_close(result.params["second.weight"], kept[best], rtol=1e-9, atol=1e-12)
    assert result.loss == pytest.approx(losses[best], rel=1e-9)


@pytest.mark.parametrize("architecture", ["pixel", "patch"])
@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("settings", [{"max_steps": 33}, {"max_steps": 7}, {"patience": 10, "cuts": 0}])
def test_what_is_returned_is_projected(architecture: str, rank: int, settings: dict[str, int]):
    problem = conv_problem(architecture, rank)
    result = ProjectedDescent(0.02, project_gradient=False, **settings)(problem)
    assert 0 < result.rank <= rank
    assert rows_outside(problem, result.params["second.weight"], problem.directions) < 1e-12
    assert result.loss < result.loss_before


def test_what_is_returned_has_the_rank_in_single_precision_too():
    problem = conv_problem()
    problem.block.network.float()
    single = type(problem)(
        problem.block,
        problem.memory,
        type(problem.exemplars)(*(part.float() for part in problem.exemplars[:3])),
        problem.inverse,
    )
    result = ProjectedDescent(0.02, max_steps=20)(single)
    assert result.params["second.weight"].dtype == torch.float32
    assert result.rank == 1
    assert rows_outside(single, result.params["second.weight"].double(), single.directions) < 1e-5


def test_reaches_what_lambda_descent_does_and_what_unprojected_gradients_do_in_fewer_steps():
    published = ProjectedDescent(2e-3, max_steps=600, patience=None, project_gradient=False)(conv_problem())
    result = ProjectedDescent(0.01)(conv_problem())
    assert result.loss == pytest.approx(LambdaDescent()(conv_problem()).loss, rel=0.05)
    projected = result.losses[::10]
    assert min(projected[:31]) < min(published.losses[::10])


def test_only_the_layers_weight_changes_out_of_place():
    problem = conv_problem()
    with Untouched(problem.block.network):
        result = ProjectedDescent(0.02, max_steps=20)(problem)
    assert result.params.keys() == {"second.weight"}
    assert not result.params["second.weight"].requires_grad
    assert result.num_steps == len(result.losses) - 1 == 20


def test_a_learning_rate_that_is_too_high_leaves_the_network_as_it_is():
    problem = conv_problem()
    result = ProjectedDescent(1e6, patience=5, cuts=0)(problem)
    assert torch.equal(result.params["second.weight"], problem.weight)
    assert result.loss == result.loss_before


def test_a_loss_that_is_no_longer_finite():
    solver = ProjectedDescent()
    solver.learning_rate = 1e308  # which the constructor refuses
    with pytest.raises(UserError, match=r"the loss of ProjectedDescent has become (nan|inf) after \d+ updates: lower"):
        solver(linear_problem())


def test_project_every_out_of_range():
    with pytest.raises(UserError, match="project_every must be at least 1, got 0"):
        ProjectedDescent(project_every=0)
