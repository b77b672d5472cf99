"""Rewrites in the inverse direction: against brute force, and whether the rule survives inversion."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from editable.errors import UserError
from editable.rewriting.inverse.inverse_direction import (
    InverseDirection,
    collect_output_moment,
    inverse_rewrite,
    inverse_update,
    output_keys,
)
from editable.rewriting.keys.exemplars import Exemplars
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.inverse_moment import InverseMoment
from editable.rewriting.memory.memory import make_memory
from editable.rewriting.memory.transposed_memory import transpose_memory
from tests.rewriting.problems import EXACT, Untouched, conv_problem, linear_problem, random, random_moment


def by_lagrange_multipliers(matrix, keys, values, moment):
    """Minimise tr (U − U₀) C (U − U₀)ᵀ subject to U K* = V*, row by row, as one system of linear equations."""
    size, number = keys.shape
    system = torch.zeros(size + number, size + number, dtype=torch.float64)
    system[:size, :size], system[:size, size:], system[size:, :size] = moment, keys, keys.T
    return torch.linalg.solve(system, torch.cat([matrix @ moment, values], dim=1).T)[:size].T


def pseudo_inverse(matrix):
    """(UᵀU)⁻¹Uᵀ of a matrix of full column rank; Uᵀ(UUᵀ)⁻¹ of one of full row rank."""
    if matrix.shape[0] >= matrix.shape[1]:
        return torch.linalg.inv(matrix.T @ matrix) @ matrix.T
    return matrix.T @ torch.linalg.inv(matrix @ matrix.T)


def output_inverse(problem, images=None):
    memory = transpose_memory(problem.memory)
    images = random(30, *problem.exemplars.inputs.shape[1:], seed=9) if images is None else images
    return InverseMoment(collect_output_moment(problem.block, memory, [images]), EXACT)


def conv_outputs_inverse(problem):
    return output_inverse(problem, random(30, 3, 6, 6, seed=9))


def masked_mean(maps, mask):
    return (maps * mask[:, None]).sum((0, 2, 3)) / mask.sum()


@pytest.mark.parametrize("shape", [(4, 7), (7, 4)], ids=["f<c", "f>c"])
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("by", ["transpose", "pseudo_inverse"])
def test_against_brute_force(shape, number, by):
    matrix, moment = random(*shape, seed=0), random_moment(shape[0])
    keys, values = random(shape[0], number, seed=1), random(shape[1], number, seed=2)
    invert = pseudo_inverse if by == "pseudo_inverse" else torch.t
    changed = by_lagrange_multipliers(invert(matrix), keys, values, moment)
    expected = invert(changed)
    update = inverse_update(matrix, keys, values, InverseMoment(moment, EXACT), by)
    torch.testing.assert_close(update.matrix, expected, rtol=1e-9, atol=1e-10)
    survival = update.survival
    assert survival.inverse_residual < 1e-12
    assert survival.residual == pytest.approx(float((expected @ values - keys).norm() / keys.norm()), abs=1e-10)
    assert survival.residual_before == pytest.approx(float((matrix @ values - keys).norm() / keys.norm()))


def test_pseudo_inverse_is_exact_where_the_matrix_is_not_higher_than_wide():
    for shape in ((4, 7), (5, 5)):
        update = inverse_update(
            random(*shape, seed=0),
            random(shape[0], 2, seed=1),
            random(shape[1], 2, seed=2),
            InverseMoment(random_moment(shape[0]), EXACT),
            "pseudo_inverse",
        )
        assert update.survival.residual < 1e-10
        assert update.survival.survives
        assert update.survival.warning is None


def test_pseudo_inverse_is_a_projection_where_the_matrix_is_higher_than_wide():
    """W₁V* is what the range of W₁ holds of K*, found here by least squares."""
    keys, values = random(7, 2, seed=1), random(4, 2, seed=2)
    inverse = InverseMoment(random_moment(7), EXACT)
    update = inverse_update(random(7, 4, seed=0), keys, values, inverse, "pseudo_inverse")
    nearest = update.matrix @ torch.linalg.lstsq(update.matrix, keys).solution
    torch.testing.assert_close(update.matrix @ values, nearest, rtol=0, atol=1e-10)
    assert not update.survival.survives
    assert update.survival.residual == pytest.approx(float((nearest - keys).norm() / keys.norm()), abs=1e-10)
    assert r"the memory's matrix [7, 4] has more rows than columns" in update.survival.warning


def test_an_orthogonal_memory_that_keeps_the_rule_already_is_not_changed():
    matrix = torch.linalg.qr(random(5, 5, seed=0)).Q
    values = random(5, 1, seed=1)
    for by in ("transpose", "pseudo_inverse"):
        update = inverse_update(matrix, matrix @ values, values, InverseMoment(random_moment(5), EXACT), by)
        torch.testing.assert_close(update.matrix, matrix, rtol=0, atol=1e-12)
        assert update.survival.survives


def test_dead_filters_are_told():
    matrix = random(4, 7, seed=0)
    matrix[2:] = 0  # of the two, the rule brings one to life
    keys, values = random(4, 1, seed=1), random(7, 1, seed=2)
    survival = inverse_update(matrix, keys, values, InverseMoment(random_moment(4), EXACT), "pseudo_inverse").survival
    assert not survival.survives
    assert "the rewritten W† [7, 4] has rank 3, not 4" in survival.warning


def test_a_patch_memory_gives_the_outputs_that_the_rule_asks_for():
    """Architecture 4: the mean output over the concept is, after the rewrite, that of the target."""
    problem = conv_problem("patch")
    with Untouched(problem.block.network):
        result = inverse_rewrite(problem, conv_outputs_inverse(problem), "pseudo_inverse")
    inputs, targets, mask, _ = problem.exemplars
    weight = result.rewrite.params["second.weight"]
    found = masked_mean(functional.conv2d(inputs, weight, padding=1), mask)
    wanted = masked_mean(functional.conv2d(targets, problem.weight, padding=1), mask)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
    assert result.survival.survives
    assert result.survival.residual < 1e-10
    assert result.rewrite.residual < 1e-10
    assert result.rewrite.rank <= 2
    assert result.rewrite.num_steps == 0


def test_the_transpose_does_not():
    problem = conv_problem("patch")
    with pytest.warns(UserWarning, match=r"a transpose is no inverse, .* ‖W V\* − K\*‖ / ‖K\*‖ is \d+"):
        result = inverse_rewrite(problem, conv_outputs_inverse(problem), "transpose")
    assert result.survival.inverse_residual < 1e-12
    assert not result.survival.survives
    assert result.rewrite.residual == pytest.approx(result.survival.residual)
    # Its own constraint is one of the transposed convolution: conv_transpose2d takes the mean output to the mean patch.
    weight = result.rewrite.params["second.weight"]
    patch = functional.conv_transpose2d(output_keys(problem).view(1, 4, 1, 1), weight)
    torch.testing.assert_close(patch.flatten(), problem.keys.flatten(), rtol=0, atol=1e-10)


def test_a_pixel_memory_keeps_a_projection_and_warns():
    problem = conv_problem("pixel")
    with Untouched(problem.block.network), pytest.warns(UserWarning, match=r"matrix \[36, 4\] has more rows"):
        result = inverse_rewrite(problem, conv_outputs_inverse(problem), "pseudo_inverse")
    assert result.survival.inverse_residual < 1e-10
    assert 1e-3 < result.survival.residual < 1


def test_keys_of_a_patch_memory_are_the_forward_values():
    problem = conv_problem("patch")
    torch.testing.assert_close(output_keys(problem), problem.values, rtol=0, atol=1e-12)


def test_keys_of_a_pixel_memory_are_what_the_concept_reaches():
    problem = conv_problem("pixel")
    _, targets, mask, _ = problem.exemplars
    outputs = functional.pad(functional.conv2d(targets, problem.weight, padding=1), (1, 1, 1, 1))
    # Tap o of pixel q reaches q + padding − o.
    windows = [outputs[:, :, 2 - row :, 2 - column :][:, :, :6, :6] for row in range(3) for column in range(3)]
    expected = torch.stack([masked_mean(window, mask) for window in windows], dim=1).view(-1, 1)
    torch.testing.assert_close(output_keys(problem), expected, rtol=0, atol=1e-12)


def test_linear_layer_with_several_rules_and_a_bias():
    """A layer [6, 8] is its own memory; what it reads of each concept gives what the targets gave, bias and all."""
    problem = linear_problem(num_rules=3)
    result = inverse_rewrite(problem, output_inverse(problem), "pseudo_inverse")
    inputs, targets, _, _ = problem.exemplars
    network = problem.block.network
    with torch.no_grad():
        wanted = network(targets)
        found = functional.linear(inputs, result.rewrite.params["0.weight"], network[0].bias)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
    assert result.survival.survives


def test_rules_are_told_apart_in_convolutions():
    problem = conv_problem("patch")
    exemplars = problem.exemplars._replace(rules=torch.tensor([1, 0, 1]))
    problem = RewriteProblem(problem.block, problem.memory, exemplars, problem.inverse)
    torch.testing.assert_close(output_keys(problem), problem.values, rtol=0, atol=1e-12)
    result = inverse_rewrite(problem, conv_outputs_inverse(problem), "pseudo_inverse")
    assert result.rewrite.residual < 1e-10


@pytest.mark.parametrize("architecture", ["pixel", "patch"])
def test_second_moment_of_outputs(architecture):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1)).double()
    block = LayerBlock(network, "0")
    memory = transpose_memory(make_memory(block.weight.shape, block.geometry, architecture))
    images = random(6, 3, 7, 8, seed=0)
    moment = collect_output_moment(block, memory, [images[:4], images[4:]])
    outputs = functional.conv2d(images, block.weight.detach(), None, 2, 1)
    if architecture == "patch":
        columns = outputs.transpose(0, 1).flatten(1)
    else:
        # Position q sees output p by tap o where 2p + o − 1 = q; put zeros between the outputs and around them.
        apart = torch.zeros(6, 4, 7 + 2, 8 + 2, dtype=torch.float64)
        apart[:, :, 1:8:2, 1:8:2] = outputs
        taps = [
            apart[:, :, 2 - row : 2 - row + 7, 2 - column : 2 - column + 8] for row in range(3) for column in range(3)
        ]
        columns = torch.stack(taps, dim=2).transpose(0, 1).flatten(3).permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    torch.testing.assert_close(moment.mean, columns @ columns.T / columns.shape[1], rtol=1e-12, atol=1e-12)


def test_second_moment_of_a_sample_of_outputs():
    problem = conv_problem("patch")
    memory = transpose_memory(problem.memory)
    images = random(20, 3, 6, 6, seed=0)
    whole, sample, same = (
        collect_output_moment(problem.block, memory, [images], positions, seed=1) for positions in (None, 10, 10)
    )
    assert sample.count == whole.count
    assert torch.equal(sample.mean, same.mean)
    assert 0 < (sample.mean - whole.mean).norm() < 0.2 * whole.mean.norm()


def test_empty_mask():
    problem = conv_problem("patch")
    inputs, targets, mask, _ = problem.exemplars
    problem = RewriteProblem(
        problem.block, problem.memory, Exemplars(inputs, targets, torch.zeros_like(mask)), problem.inverse
    )
    with pytest.raises(UserError, match=r"the mask of exemplar 0 .* is empty"):
        output_keys(problem)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"by": "adjoint"}, "by must be one of transpose, pseudo_inverse, got 'adjoint'"),
        ({"matrix": torch.zeros(4, 7)}, "a weight that is zero throughout has no inverse"),
        ({"matrix": torch.ones(4, 7, 1)}, r"with keys \[f, S\] and values \[c, S\], got \[4, 7, 1\]"),
        ({"values": torch.ones(6, 1)}, r"\[6, 1\]"),
        ({"keys": torch.zeros(4, 1)}, "key 0 of 1 is zero"),
        ({"matrix": torch.ones(7, 7)}, "7 entries here, but the second moment is of keys of 4"),
    ],
)
def test_unsuitable_input(change, message):
    arguments = {
        "matrix": random(4, 7, seed=0),
        "keys": random(4, 1, seed=1),
        "values": random(7, 1, seed=2),
        "inverse": InverseMoment(random_moment(4), EXACT),
        "by": "pseudo_inverse",
    } | change
    with pytest.raises(UserError, match=message):
        inverse_update(**arguments)


def test_a_second_moment_of_the_inputs():
    problem = conv_problem("patch")
    with pytest.raises(UserError, match=r"backwards the outputs are the keys, 4 entries here, but .* of 36"):
        inverse_rewrite(problem, problem.inverse, "pseudo_inverse")


@pytest.mark.parametrize("architecture", ["pixel", "patch"])
@pytest.mark.filterwarnings("ignore:the memory's matrix")
def test_the_solver_collects_the_second_moment_of_outputs_over_the_reference_images(architecture):
    images = random(30, 3, 6, 6, seed=9)
    problem = conv_problem(architecture, reference_images=images)
    expected = inverse_rewrite(problem, output_inverse(problem, images), "pseudo_inverse")
    solver = InverseDirection()
    assert solver.uses_references
    with Untouched(problem.block.network):
        result = solver(problem)
    torch.testing.assert_close(result.params["second.weight"], expected.rewrite.params["second.weight"])
    assert solver.survival.survives == (architecture == "patch")
    assert solver.survival.residual == pytest.approx(expected.survival.residual, abs=1e-10)


def test_the_solver_warns_where_the_rule_is_lost():
    problem = conv_problem("patch", reference_images=random(30, 3, 6, 6, seed=9))
    with pytest.warns(UserWarning, match="a transpose is no inverse"):
        InverseDirection("transpose")(problem)


def test_mistakes_of_the_solver():
    with pytest.raises(UserError, match="by must be one of transpose, pseudo_inverse, got 'adjoint'"):
        InverseDirection("adjoint")
    with pytest.raises(UserError, match="InverseDirection needs reference images"):
        InverseDirection()(conv_problem("patch"))
