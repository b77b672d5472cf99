"""The old way: its minimum on a linear layer is known, references hold a network in place, all weights may move."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from editable.errors import UserError
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.memory.inverse_moment import InverseMoment
from editable.rewriting.solvers.closed_form import ClosedForm
from editable.rewriting.solvers.smooth_descent import SmoothDescent
from tests.rewriting.problems import EXACT, Untouched, conv_problem, linear_problem, random
from tests.rewriting.solvers.test_lambda_descent import plain_loss

REFERENCES = random(12, 3, 6, 6, seed=9)


def with_references(problem: RewriteProblem, references: torch.Tensor, **others) -> RewriteProblem:
    given = {"images": problem.images, "labels": problem.labels, "reference_images": references} | others
    inverse = others.pop("inverse", problem.inverse)
    given.pop("inverse", None)
    return RewriteProblem(problem.block, problem.memory, problem.exemplars, inverse, problem.rank, **given)


def linear_with_references(num_rules: int) -> RewriteProblem:
    references = random(40, 8, seed=5)
    inverse = InverseMoment(references.T @ references / 40, EXACT)
    return with_references(linear_problem(num_rules), references, inverse=inverse)


@pytest.mark.parametrize("num_rules", [1, 2])
@pytest.mark.parametrize("constraint", [0.1, 10.0])
def test_reaches_the_minimum_on_a_linear_layer(num_rules: int, constraint: float):
    """Minimise tr ΔCΔᵀ + λ/S ‖(W₀ + Δ)K − V‖²: Δ = (V − W₀K) Kᵀ (KKᵀ + S/λ C)⁻¹, row by row."""
    problem = linear_with_references(num_rules)
    keys, weight = problem.exemplars.inputs.T, problem.weight
    asked = weight @ (problem.exemplars.target_inputs.T - keys)
    moment = problem.reference_images.T @ problem.reference_images / 40
    expected = weight + asked @ keys.T @ torch.linalg.inv(keys @ keys.T + num_rules / constraint * moment)
    result = SmoothDescent("layer", constraint, 0.02, batch_size=40, patience=20, cuts=3)(problem)
    torch.testing.assert_close(result.params["0.weight"], expected, rtol=1e-3, atol=1e-3)


def test_nears_the_closed_form_as_the_constraint_grows():
    problem = linear_with_references(1)
    expected = ClosedForm()(problem).params["0.weight"]
    distances = [
        (SmoothDescent("layer", constraint, 0.02, batch_size=40, patience=20)(problem).params["0.weight"] - expected)
        for constraint in (0.1, 1.0, 10.0)
    ]
    assert distances[0].norm() > 2 * distances[1].norm() > 4 * distances[2].norm()


def test_one_layer_equals_a_plain_loop():
    problem = with_references(conv_problem(), REFERENCES)
    result = SmoothDescent("layer", 2.0, 0.01, max_steps=8, patience=None, batch_size=12)(problem)
    network, block = problem.block.network.eval(), problem.block
    inputs = block.inputs(REFERENCES).detach()

    def values(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        return network.bn2(functional.conv2d(x, kernel, padding=1)).relu()

    mask = problem.exemplars.mask[:, None].expand(3, 4, 6, 6) == 1
    targets = values(problem.exemplars.target_inputs, problem.weight).detach()
    weight = problem.weight.clone().requires_grad_()
    optimizer = torch.optim.Adam([weight], 0.01)
    losses = []
    for _ in range(9):
        smooth = (values(inputs, weight) - values(inputs, problem.weight)).square().mean()
        wanted = (values(problem.exemplars.inputs, weight) - targets)[mask].square().mean()
        loss = smooth + 2.0 * wanted
        losses.append(loss.item())
        last = weight.detach().clone()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(result.losses, losses, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(result.params["second.weight"], last, rtol=1e-9, atol=1e-12)
    assert result.loss == pytest.approx(plain_loss(problem, last).item(), rel=1e-9)


def test_all_weights_equal_a_plain_loop_on_a_copy():
    problem = with_references(conv_problem(), REFERENCES)
    with Untouched(problem.block.network):
        result = SmoothDescent("all", 2.0, 0.01, max_steps=5, patience=None, batch_size=12)(problem)
    network: nn.Module = copy.deepcopy(problem.block.network).eval()
    logits = network(REFERENCES).detach()
    mask = problem.exemplars.mask[:, None].expand(3, 4, 6, 6) == 1

    def values() -> torch.Tensor:
        x = network.relu(network.bn1(network.first(problem.images)))
        return network.relu(network.bn2(network.second(x)))

    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    losses = []
    for step in range(6):
        wanted = (values() - problem.targets)[mask].square().mean()
        loss = (network(REFERENCES) - logits).square().mean() + 2.0 * wanted
        losses.append(loss.item())
        if step == 5:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(result.losses, losses, rtol=1e-8, atol=1e-12)
    assert result.params.keys() == dict(network.named_parameters()).keys()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(result.params[name], parameter.detach(), rtol=1e-8, atol=1e-10)
    absolute = (values() - problem.targets)[mask].abs().mean().item()
    assert result.loss == pytest.approx(absolute, rel=1e-8)
    changes = [tensor - problem.block.network.get_parameter(name) for name, tensor in result.params.items()]
    assert result.norm == pytest.approx(sum(change.square().sum().item() for change in changes) ** 0.5, rel=1e-10)
    assert result.rank > 1


def test_one_layer_changes_only_its_weight():
    problem = with_references(conv_problem(), REFERENCES)
    with Untouched(problem.block.network):
        result = SmoothDescent(max_steps=5)(problem)
    assert result.params.keys() == {"second.weight"}


def test_the_constraint_weighs_what_is_wanted_against_what_shall_stay():
    problem = with_references(conv_problem(), REFERENCES)
    network = problem.block.network.eval()

    def outcome(constraint: float) -> tuple[float, float]:
        result = SmoothDescent("layer", constraint, 0.01, max_steps=150, patience=None)(problem)
        changed = torch.func.functional_call(network, result.params, (REFERENCES,))
        return result.loss, (changed - network(REFERENCES)).abs().mean().item()

    (loose_loss, loose_change), (tight_loss, tight_change) = outcome(0.1), outcome(100.0)
    assert tight_loss < loose_loss
    assert tight_change > loose_change


@pytest.mark.parametrize("layers", ["layer", "all"])
def test_batches_are_drawn_by_seed(layers: str):
    problem = with_references(conv_problem(), REFERENCES)
    one, again, other = (
        SmoothDescent(layers, max_steps=6, batch_size=5, seed=seed)(problem).params["second.weight"]
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_batch_as_large_as_all_needs_no_seed():
    problem = with_references(conv_problem(), REFERENCES)
    one, other = (SmoothDescent(max_steps=6, batch_size=20, seed=seed)(problem).losses for seed in (0, 1))
    assert one == other


def test_without_reference_images():
    with pytest.raises(UserError, match="SmoothDescent needs reference images"):
        SmoothDescent()(conv_problem())


def test_all_weights_without_images():
    problem = with_references(conv_problem(), REFERENCES, images=None)
    with pytest.raises(UserError, match="needs the exemplars' images, not only what the layer reads"):
        SmoothDescent("all")(problem)


def test_all_weights_with_exemplars_made_at_the_layer():
    problem = with_references(conv_problem(), REFERENCES, images=random(3, 3, 6, 6, seed=77))
    with pytest.raises(UserError, match="needs exemplars that come from images: these were changed at the layer"):
        SmoothDescent("all")(problem)


def test_a_loss_that_is_no_longer_finite():
    solver = SmoothDescent()
    solver.learning_rate = 1e200  # which the constructor refuses
    with pytest.raises(UserError, match=r"the loss of SmoothDescent has become (nan|inf) after \d+ updates"):
        solver(with_references(conv_problem(), REFERENCES))


def test_arguments_out_of_range():
    with pytest.raises(UserError, match="layers must be 'layer' or 'all', got 'some'"):
        SmoothDescent("some")
    for constraint in (0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match="constraint must be"):
            SmoothDescent(constraint=constraint)
    with pytest.raises(UserError, match="batch_size must be at least 1, got 0"):
        SmoothDescent(batch_size=0)
