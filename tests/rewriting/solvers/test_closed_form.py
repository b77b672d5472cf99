"""Memories by formula: exact recall, least squares, and the least change that meets constraints."""

import pytest
import torch

from editable.errors import UserError
from editable.rewriting.keys.exemplars import Exemplars
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.memory.inverse_moment import InverseMoment
from editable.rewriting.solvers.closed_form import ClosedForm, closed_form_update, least_squares_memory
from tests.rewriting.problems import EXACT, Untouched, conv_problem, linear_problem, random, random_moment


def rewritten(matrix: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
    update = closed_form_update(matrix, keys, values, InverseMoment(moment, EXACT))
    return matrix + update.coefficients @ update.directions.T


def cost(change: torch.Tensor, moment: torch.Tensor) -> float:
    """What the rewrite minimises, the mean squared change of what other keys recall."""
    return float((change @ moment @ change.T).trace())


def by_lagrange_multipliers(
    matrix: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, moment: torch.Tensor
) -> torch.Tensor:
    """Solve for each row w of W: C(w − w₀) + Kμ = 0 and Kᵀw = v, as one system of linear equations."""
    size, number = keys.shape
    system = torch.zeros(size + number, size + number, dtype=torch.float64)
    system[:size, :size], system[:size, size:], system[size:, :size] = moment, keys, keys.T
    right = torch.cat([matrix @ moment, values], dim=1)
    return torch.linalg.solve(system, right.T)[:size].T


def by_null_space(all_keys: torch.Tensor, all_values: torch.Tensor, keys: torch.Tensor, values: torch.Tensor):
    """Minimise ‖V − WK‖ subject to WK* = V*, over the W that differ from a feasible one in the null space of K*ᵀ."""
    number = keys.shape[1]
    basis = torch.linalg.qr(keys, mode="complete").Q[:, number:]
    feasible = values @ torch.linalg.pinv(keys)
    free = torch.linalg.lstsq((basis.T @ all_keys).T, (all_values - feasible @ all_keys).T).solution.T
    return feasible + free @ basis.T


def test_orthonormal_keys_recall_their_values_exactly():
    keys = torch.linalg.qr(random(9, 5, seed=0)).Q
    values = random(4, 5, seed=1)
    memory = least_squares_memory(keys, values)
    torch.testing.assert_close(memory, sum(torch.outer(values[:, i], keys[:, i]) for i in range(5)), rtol=0, atol=1e-13)
    torch.testing.assert_close(memory @ keys, values, rtol=0, atol=1e-13)


def test_least_squares_by_the_normal_equations():
    keys, values = random(6, 40, seed=0), random(3, 40, seed=1)
    expected = values @ keys.T @ torch.linalg.inv(keys @ keys.T)
    torch.testing.assert_close(least_squares_memory(keys, values), expected, rtol=1e-10, atol=1e-12)


def test_ridge_by_the_normal_equations_also_with_fewer_keys_than_entries():
    for number in (4, 40):
        keys, values = random(6, number, seed=0), random(3, number, seed=1)
        expected = values @ keys.T @ torch.linalg.inv(keys @ keys.T + 0.3 * torch.eye(6, dtype=torch.float64))
        torch.testing.assert_close(least_squares_memory(keys, values, 0.3), expected, rtol=1e-10, atol=1e-12)


def test_few_keys_are_recalled_by_the_memory_of_least_norm():
    keys, values = random(6, 4, seed=0), random(3, 4, seed=1)
    memory = least_squares_memory(keys, values)
    torch.testing.assert_close(memory @ keys, values, rtol=0, atol=1e-12)
    other = random(3, 6, seed=2) @ (torch.eye(6, dtype=torch.float64) - keys @ torch.linalg.pinv(keys))
    assert memory.norm() < (memory + 1e-3 * other).norm()
    tiny = least_squares_memory(keys, values, 1e-12)
    torch.testing.assert_close(memory, tiny, rtol=1e-6, atol=1e-8)


def test_least_squares_of_what_does_not_fit():
    with pytest.raises(UserError, match=r"same number of columns, got \[6, 4\] and \[3, 5\]"):
        least_squares_memory(random(6, 4, seed=0), random(3, 5, seed=1))
    with pytest.raises(UserError, match="ridge must be at least 0, got -1"):
        least_squares_memory(random(6, 4, seed=0), random(3, 4, seed=1), -1)


@pytest.mark.parametrize("number", [1, 2, 5, 9])
def test_constraints_are_met_with_rank_s(number: int):
    matrix, keys, values = random(12, 9, seed=0), random(9, number, seed=1), random(12, number, seed=2)
    update = closed_form_update(matrix, keys, values, InverseMoment(random_moment(9), EXACT))
    changed = matrix + update.coefficients @ update.directions.T
    assert (changed @ keys - values).abs().max() < 1e-10
    assert torch.linalg.matrix_rank(changed - matrix) == number
    torch.testing.assert_close(
        update.directions.T @ update.directions, torch.eye(number, dtype=torch.float64), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("number", [1, 3])
def test_equals_the_published_formula(number: int):
    matrix, keys, values = random(5, 9, seed=0), random(9, number, seed=1), random(5, number, seed=2)
    moment = random_moment(9)
    solved = torch.linalg.inv(moment) @ keys
    expected = matrix + (values - matrix @ keys) @ torch.linalg.inv(keys.T @ solved) @ solved.T
    torch.testing.assert_close(rewritten(matrix, keys, values, moment), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("number", [1, 3, 8])
def test_equals_constrained_least_squares_by_lagrange_multipliers(number: int):
    matrix, keys, values = random(5, 9, seed=0), random(9, number, seed=1), random(5, number, seed=2)
    moment = random_moment(9)
    expected = by_lagrange_multipliers(matrix, keys, values, moment)
    torch.testing.assert_close(rewritten(matrix, keys, values, moment), expected, rtol=1e-9, atol=1e-10)


def test_a_memory_that_was_fitted_is_refitted_with_the_constraints_in_force():
    all_keys, all_values = random(7, 60, seed=0), random(4, 60, seed=1)
    keys, values = random(7, 2, seed=2), random(4, 2, seed=3)
    fitted = least_squares_memory(all_keys, all_values)
    expected = by_null_space(all_keys, all_values, keys, values)
    torch.testing.assert_close(
        rewritten(fitted, keys, values, all_keys @ all_keys.T / 60), expected, rtol=1e-9, atol=1e-10
    )


def test_no_feasible_change_is_smaller():
    matrix, keys, values = random(5, 9, seed=0), random(9, 3, seed=1), random(5, 3, seed=2)
    moment = random_moment(9)
    change = rewritten(matrix, keys, values, moment) - matrix
    for seed in range(20):
        other = random(5, 9, seed=10 + seed)
        feasible = other - other @ keys @ torch.linalg.pinv(keys)
        assert (feasible @ keys).abs().max() < 1e-12
        for size in (1e-3, 1.0):
            assert cost(change + size * feasible, moment) > cost(change, moment)


@pytest.mark.parametrize("scale", [1e-8, 0.3, 1e12])
def test_the_scale_of_the_second_moment_changes_nothing(scale: float):
    matrix, keys, values = random(5, 9, seed=0), random(9, 3, seed=1), random(5, 3, seed=2)
    moment = random_moment(9)
    torch.testing.assert_close(
        rewritten(matrix, keys, values, scale * moment), rewritten(matrix, keys, values, moment), rtol=1e-10, atol=1e-12
    )


def test_keys_of_very_different_length_and_nearly_dependent_ones():
    matrix, values = random(5, 9, seed=0), random(5, 2, seed=2)
    keys = random(9, 2, seed=1)
    for changed in (keys * torch.tensor([1e-6, 1e5]), torch.stack([keys[:, 0], keys[:, 0] + 1e-4 * keys[:, 1]], 1)):
        result = rewritten(matrix, changed, values, random_moment(9))
        assert (result @ changed - values).abs().max() < 1e-10 * max(1.0, float(result.norm() * changed.norm()))


def one_by_one(matrix: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
    for i in range(keys.shape[1]):
        matrix = rewritten(matrix, keys[:, i : i + 1], values[:, i : i + 1], moment)
    return matrix


def test_one_by_one_a_rule_breaks_those_before_it():
    matrix, keys, values = random(5, 9, seed=0), random(9, 3, seed=1), random(5, 3, seed=2)
    moment = random_moment(9)
    result = one_by_one(matrix, keys, values, moment)
    broken = (result @ keys - values).norm(dim=0)
    assert broken[2] < 1e-10
    assert broken[:2].min() > 0.1
    assert (rewritten(matrix, keys, values, moment) @ keys - values).abs().max() < 1e-10


def test_one_by_one_equals_at_once_for_orthogonal_keys_under_the_inverse_moment():
    matrix, values = random(5, 9, seed=0), random(5, 3, seed=2)
    moment = random_moment(9)
    root = torch.linalg.cholesky(moment)
    keys = root @ torch.linalg.qr(random(9, 3, seed=1)).Q * torch.tensor([1.0, 2.0, 0.5])  # KᵀC⁻¹K = diag(1, 4, ¼)
    result = one_by_one(matrix, keys, values, moment)
    assert (result @ keys - values).abs().max() < 1e-10
    torch.testing.assert_close(result, rewritten(matrix, keys, values, moment), rtol=1e-9, atol=1e-10)


def test_keys_that_are_orthogonal_only_as_they_stand_break_each_other():
    matrix, values = random(5, 9, seed=0), random(5, 2, seed=2)
    keys = torch.linalg.qr(random(9, 2, seed=1)).Q
    result = one_by_one(matrix, keys, values, random_moment(9))
    assert (result @ keys - values)[:, 0].norm() > 0.1


def test_dependent_keys():
    matrix, keys, moment = random(5, 9, seed=0), random(9, 3, seed=1), random_moment(9)
    keys[:, 2] = keys[:, 0] - 2 * keys[:, 1]
    with pytest.raises(UserError, match=r"the 3 keys are linearly dependent \(rank 2\).*leave 1 of the rules out"):
        rewritten(matrix, keys, random(5, 3, seed=2), moment)
    with pytest.raises(UserError, match=r"the 10 keys are linearly dependent \(rank 9\)"):
        rewritten(matrix, random(9, 10, seed=1), random(5, 10, seed=2), moment)
    with pytest.raises(UserError, match="key 1 of 2 is zero: no weight can give it a value"):
        rewritten(matrix, keys[:, :2] * torch.tensor([1.0, 0.0]), random(5, 2, seed=2), moment)


def test_shapes_that_do_not_fit():
    moment = random_moment(9)
    with pytest.raises(UserError, match=r"keys \[c, S\] and values \[f, S\], got \[5, 9\], \[9, 3\] and \[5, 2\]"):
        rewritten(random(5, 9, seed=0), random(9, 3, seed=1), random(5, 2, seed=2), moment)
    with pytest.raises(UserError, match=r"needs at least one key of 9 entries, got \[8, 3\]"):
        rewritten(random(5, 9, seed=0), random(8, 3, seed=1), random(5, 3, seed=2), moment)
    with pytest.raises(UserError, match=r"needs at least one key of 9 entries, got \[9, 0\]"):
        rewritten(random(5, 9, seed=0), random(9, 0, seed=1), random(5, 0, seed=2), moment)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite(place: int, value: float):
    given = [random(5, 9, seed=0), random(9, 3, seed=1), random(5, 3, seed=2)]
    given[place][1, 1] = value
    with pytest.raises(UserError, match="must be finite"):
        rewritten(*given, random_moment(9))


@pytest.mark.parametrize("num_rules", [1, 3])
def test_solver_on_a_linear_layer(num_rules: int):
    problem = linear_problem(num_rules)
    network = problem.block.network
    with Untouched(network):
        result = ClosedForm()(problem)
    weight = result.params["0.weight"]
    keys, targets = problem.exemplars.inputs.T, network[0].weight.detach() @ problem.exemplars.target_inputs.T
    expected = by_lagrange_multipliers(network[0].weight.detach(), keys, targets, random_moment(8))
    torch.testing.assert_close(weight, expected, rtol=1e-9, atol=1e-10)
    assert result.params.keys() == {"0.weight"}
    assert (result.rank, result.num_steps, result.losses) == (num_rules, 0, [])
    assert result.residual < 1e-12
    assert result.loss < 1e-12 < result.loss_before
    assert result.norm == pytest.approx(float((weight - network[0].weight.detach()).norm()), rel=1e-12)
    assert result.relative_norm == pytest.approx(result.norm / float(network[0].weight.detach().norm()), rel=1e-12)
    assert 0 < result.seconds < 10


@pytest.mark.parametrize("architecture", ["pixel", "patch"])
@pytest.mark.parametrize("rank", [1, 3])
def test_solver_on_a_convolution_is_exact_and_of_rank_1_whatever_rank_a_descent_may_use(architecture: str, rank: int):
    problem = conv_problem(architecture, rank)
    with Untouched(problem.block.network):
        result = ClosedForm()(problem)
    assert result.params.keys() == {"second.weight"}
    assert result.residual < 1e-12
    assert result.rank == 1
    matrix = problem.memory.matrix(result.params["second.weight"])
    mean_key = (problem.memory.keys(problem.exemplars.inputs) * weights_of(problem)[:, None]).sum((0, 2))
    recalled = matrix @ (mean_key / weights_of(problem).sum())
    torch.testing.assert_close(recalled, problem.values[:, 0], rtol=1e-10, atol=1e-12)


def weights_of(problem: RewriteProblem) -> torch.Tensor:
    """The mask on the key map, which in this problem has the size of the mask."""
    return problem.exemplars.mask.flatten(1)


def test_solver_keeps_the_data_type_of_the_weight():
    problem = linear_problem()
    problem.block.network.float()
    single = RewriteProblem(
        problem.block,
        problem.memory,
        Exemplars(*(part.float() for part in problem.exemplars[:3])),
        problem.inverse,
    )
    result = ClosedForm()(single)
    assert result.params["0.weight"].dtype == torch.float32
    assert result.rank == 1  # the rounding of the weights is no change
    assert result.residual < 1e-6


def test_solver_where_nothing_is_asked_for():
    problem = linear_problem()
    same = Exemplars(problem.exemplars.inputs, problem.exemplars.inputs, problem.exemplars.mask)
    result = ClosedForm()(RewriteProblem(problem.block, problem.memory, same, problem.inverse))
    assert torch.allclose(result.params["0.weight"], problem.block.weight, rtol=0, atol=1e-14)
    assert result.loss_before == 0.0


def test_solver_on_the_same_exemplar_as_two_rules():
    problem = linear_problem()
    twice = Exemplars(*(part.repeat(2, *[1] * (part.ndim - 1)) for part in problem.exemplars[:3]), torch.arange(2))
    with pytest.raises(UserError, match=r"the 2 keys are linearly dependent \(rank 1\)"):
        ClosedForm()(RewriteProblem(problem.block, problem.memory, twice, problem.inverse))


def test_weights_that_are_not_finite():
    problem = linear_problem()
    with torch.no_grad():
        problem.block.network[0].bias[0] = float("nan")
    with pytest.raises(UserError, match="the targets of '0' are not finite: look at the weights of the network"):
        ClosedForm()(problem)


def test_a_rewrite_that_its_data_type_cannot_hold():
    problem = linear_problem()
    problem.block.network.float()
    inputs, target_inputs, mask = (part.float() for part in problem.exemplars[:3])
    exemplars = Exemplars(1e-30 * inputs, 1e30 * target_inputs, mask)
    with pytest.raises(UserError, match=r"the rewritten '0.weight' is not finite in torch.float32"):
        ClosedForm()(RewriteProblem(problem.block, problem.memory, exemplars, problem.inverse))
