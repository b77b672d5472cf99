"""Change of a generator's images by a rewrite: where the context matches, towards the target, and elsewhere."""

import pytest
import torch
from torch.func import functional_call

from editable.errors import UserError
from editable.models import NormalLatents
from editable.rewriting import ClosedForm, ProjectedDescent
from editable.rewriting.generators.generator_outcome import measure_generator
from editable.rewriting.keys.paste_problem import PasteProblem, paste_problem
from tests.rewriting.generator_rules import SIZE, inverse_of, parts_of, planted, planted_rule

QUANTILE = 0.995  # the first concept is clear in a sixth of the images, at one of 36 positions
ROUNDING = 1 + 1e-12  # a bound may be attained, and rounding, which differs between processors, takes either side


@pytest.fixture
def problem() -> PasteProblem:
    block, memory, moment = parts_of(planted())
    return paste_problem(block, memory, planted_rule(), inverse_of(moment))


@pytest.fixture
def unseen() -> torch.Tensor:
    return NormalLatents(4)(90, 5)


def test_features_move_towards_the_target_and_the_rest_stays_within_the_bound(problem, unseen):
    result = ProjectedDescent(learning_rate=0.05, max_steps=300)(problem)
    outcome, context = measure_generator(problem, result.params, unseen, quantile=QUANTILE, batch_size=32)
    assert outcome.num_images == 90
    assert outcome.matched_positions == pytest.approx(1 - QUANTILE, abs=2 / (90 * SIZE * SIZE))
    assert outcome.feature_progress > 0.5
    assert outcome.feature_distance < 0.6 * outcome.feature_distance_before
    # Weaker responses below the threshold are changed too, in proportion.
    assert outcome.feature_change_elsewhere < 0.25 * outcome.feature_change_matched
    assert outcome.pixel_change_elsewhere < 0.25 * outcome.pixel_change_matched
    # Position by position, behind BatchNorm and ReLU, whose slopes are |γ|/σ and at most 1.
    network, block = problem.block.network, problem.block
    inputs = block.inputs(unseen.double())
    weight = result.params["conv.weight"]
    change = (block.values(inputs, weight) - block.values(inputs)).abs()
    slopes = network.bn.weight.abs() / (network.bn.running_var + network.bn.eps).sqrt()
    elsewhere = context.reached == 0
    assert elsewhere.any()
    assert outcome.output_change_elsewhere <= outcome.output_bound * ROUNDING
    largest = change.mean(dim=1)[elsewhere].max()
    assert largest <= float(slopes.detach().max()) * outcome.output_bound


@torch.no_grad()
def test_measures_equal_a_plain_computation(problem, unseen):
    """Loops over images and positions of the map, and the whole network called with the changed weight."""
    params = ClosedForm()(problem).params
    wanted_pixels = torch.tensor([0.3])
    outcome, context = measure_generator(problem, params, unseen, wanted_pixels, QUANTILE, batch_size=7)
    network = problem.block.network.eval()
    z = unseen.double()
    read = network.relu0(network.unflatten(network.fc(z)))
    before = network.relu(network.bn(network.conv(read)))
    changed = torch.nn.functional.conv2d(read, params["conv.weight"], network.conv.bias, padding=1)
    after = network.relu(network.bn(changed))
    pixels = functional_call(network, params, (z,)) - network(z)
    outputs = (changed - network.conv(read)).abs().mean(dim=1)
    responses = torch.einsum("c,nchw->nhw", problem.directions[:, 0], read)
    torch.testing.assert_close(context.responses, responses)
    threshold = sorted(responses.flatten().tolist())[int(QUANTILE * (responses.numel() - 1))]
    assert context.threshold == pytest.approx(threshold)
    target = _masked_mean(problem.targets, problem.value_mask)
    wanted = target - _masked_mean(problem.block.values(problem.exemplars.inputs), problem.value_mask)
    inside, outside, untouched = [], [], []
    for image in range(len(z)):
        matches = {(r, c) for r in range(SIZE) for c in range(SIZE) if responses[image, r, c] >= threshold}
        near = {(r + a, c + b) for r, c in matches for a in (-1, 0, 1) for b in (-1, 0, 1)}
        if not matches:
            untouched.append(pixels[image].abs().mean())
        for position in ((r, c) for r in range(SIZE) for c in range(SIZE)):
            if position in matches:
                inside.append((image, *position))
            elif position not in near:
                outside.append((image, *position))
    assert inside
    assert outside
    assert untouched

    def mean(maps, places):
        return torch.stack([maps[n, :, r, c] for n, r, c in places]).mean(dim=0)

    moved = mean(after - before, inside)
    shifted = mean(pixels, inside)
    expected = {
        "matched_positions": len(inside) / responses.numel(),
        "matched_images": 1 - len(untouched) / len(z),
        "feature_progress": float(moved @ wanted / (wanted @ wanted)),
        "feature_distance_before": float(mean((before - target[:, None, None]).abs(), inside).mean()),
        "feature_distance": float(mean((after - target[:, None, None]).abs(), inside).mean()),
        "feature_change_matched": float(mean((after - before).abs(), inside).mean()),
        "feature_change_elsewhere": float(mean((after - before).abs(), outside).mean()),
        "pixel_progress": float(shifted[0] / 0.3),
        "pixel_change_matched": float(mean(pixels.abs(), inside).mean()),
        "pixel_change_elsewhere": float(mean(pixels.abs(), outside).mean()),
        "pixel_change_unmatched_images": float(torch.stack(untouched).mean()),
        "output_change_elsewhere": max(float(outputs[n, r, c]) for n, r, c in outside),
    }
    for name, value in expected.items():
        assert getattr(outcome, name) == pytest.approx(value, rel=1e-6), name


def _masked_mean(maps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (maps * mask[:, None]).sum(dim=(0, 2, 3)) / mask.sum()


def test_no_change_is_no_change(problem, unseen):
    outcome, _ = measure_generator(problem, {"conv.weight": problem.weight}, unseen)
    assert outcome.feature_progress == 0
    assert outcome.feature_distance == outcome.feature_distance_before
    assert outcome.pixel_change_matched == outcome.pixel_change_elsewhere == outcome.output_change_elsewhere == 0


def test_rank_two_matches_by_the_length_of_the_projection(unseen):
    block, memory, moment = parts_of(planted())
    problem = paste_problem(block, memory, planted_rule(), inverse_of(moment), rank=2)
    result = ProjectedDescent(learning_rate=0.05, max_steps=100)(problem)
    outcome, context = measure_generator(problem, result.params, unseen)
    keys = block.inputs(unseen.double())
    expected = torch.einsum("cr,nchw->nrhw", problem.directions, keys).norm(dim=1)
    torch.testing.assert_close(context.responses, expected)
    assert outcome.output_change_elsewhere <= outcome.output_bound * ROUNDING


@pytest.mark.parametrize("architecture", ["patch"])
def test_patches_reach_only_their_own_position(architecture, unseen):
    block, memory, moment = parts_of(planted(), architecture)
    problem = paste_problem(block, memory, planted_rule(), inverse_of(moment))
    outcome, context = measure_generator(problem, ClosedForm()(problem).params, unseen)
    assert torch.equal(context.matched, context.reached)
    assert outcome.output_change_elsewhere <= outcome.output_bound * ROUNDING


def test_a_change_outside_of_the_span_has_no_bound(problem, unseen):
    other = problem.weight + torch.randn(problem.weight.shape, generator=torch.Generator().manual_seed(0)).double()
    assert measure_generator(problem, {"conv.weight": other}, unseen)[0].output_bound is None


def test_unfit_arguments(problem, unseen):
    params = {"conv.weight": problem.weight}
    with pytest.raises(UserError, match="length 4, got shape \\[3\\]"):
        measure_generator(problem, params, torch.zeros(2, 3))
    with pytest.raises(UserError, match="at least one latent vector"):
        measure_generator(problem, params, torch.zeros(0, 4))
    with pytest.raises(UserError, match=r"quantile must be in \(0, 1\), got 1"):
        measure_generator(problem, params, unseen, quantile=1.0)
