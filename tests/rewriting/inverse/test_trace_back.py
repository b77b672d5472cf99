"""Values of a rewritten layer traced back: what they come from before and after, and that the network stays."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from editable.errors import UserError
from editable.rewriting.inverse.reconstruction import ReconstructionSettings
from editable.rewriting.inverse.trace_back import TraceBack, Traced
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.solvers.closed_form import ClosedForm
from tests.rewriting.problems import Untouched, conv_problem, linear_problem, random

LONG, SHORT = ReconstructionSettings(num_steps=700), ReconstructionSettings(num_steps=100, restarts=2)
ORIGINALS, MANIPULATED = (random(3, 3, 6, 6, seed=seed).sigmoid() for seed in (2, 1))


def rewritten(problem: RewriteProblem) -> Tensor:
    return ClosedForm()(problem).params[problem.block.weight_name]


def distance(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).flatten(1).square().mean(1)


def last(traced: Traced, when: str, name: str) -> Tensor:
    return getattr(traced, when).watched[name][-1]


@pytest.fixture(scope="module")
def problem() -> RewriteProblem:
    """Its memory [36, 4] has independent columns: a value leads back to one key."""
    return conv_problem()


def test_before_the_rewrite_keys_are_the_originals_and_after_it_the_manipulated_ones(problem):
    with Untouched(problem.block.network):
        traced = TraceBack(problem, rewritten(problem)).keys(LONG)
    of = traced.of("original")
    torch.testing.assert_close(of.before.found, problem.target_keys.T, rtol=0, atol=1e-4)
    torch.testing.assert_close(of.after.found, problem.keys.T, rtol=0, atol=1e-4)
    between = float(functional.cosine_similarity(problem.keys.T, problem.target_keys.T))
    for when, nearer, farther in (("before", "original", "manipulated"), ("after", "manipulated", "original")):
        assert float(last(of, when, nearer)) == pytest.approx(1, abs=1e-6)
        assert float(last(of, when, farther)) == pytest.approx(between, abs=1e-4)
        assert between < 0.995
        assert (getattr(traced, when).loss_ratios >= 10).all()


def test_each_networks_own_values_lead_back_to_the_exemplars_themselves(problem):
    traced = TraceBack(problem, rewritten(problem), "own").keys(LONG)
    for when in ("before", "after"):
        for shown in ("original", "manipulated"):
            assert float(last(traced.of(shown), when, shown)) == pytest.approx(1, abs=1e-5)


def test_a_rewrite_that_changes_nothing_changes_nothing(problem):
    trace = TraceBack(problem, problem.weight)
    for stage in (trace.keys(SHORT), trace.features(SHORT)):
        assert torch.equal(stage.before.found, stage.after.found)
        assert torch.equal(stage.before.losses, stage.after.losses)


def test_features_are_found_for_originals_and_manipulated_exemplars(problem):
    weight = rewritten(problem)
    trace = TraceBack(problem, weight, count=2)
    with Untouched(problem.block.network):
        traced = trace.features(ReconstructionSettings(num_steps=200))
    inputs, targets = trace.exemplar_features
    assert len(inputs) == 2
    mask = trace.feature_mask
    for network, reconstruction in (("before", traced.before), ("after", traced.after)):
        assert (reconstruction.loss_ratios >= 10).all()
        assert (reconstruction.found >= 0).all(), "the layer reads what a ReLU gives"
        values = problem.block.values(reconstruction.found, problem.weight if network == "before" else weight)
        wanted = problem.block.values(torch.cat([targets, inputs]))
        error = (values - wanted).flatten(1).square().sum(1) / wanted.flatten(1).square().sum(1)
        torch.testing.assert_close(error, reconstruction.losses[-1])
        for name, true in (("original", targets), ("manipulated", inputs)):
            twice = torch.cat([true, true])
            weights = torch.cat([mask, mask])[:, None]
            product, *squares = (
                (weights * pair).flatten(1).sum(1)
                for pair in (reconstruction.found * twice, reconstruction.found**2, twice**2)
            )
            expected = product / (squares[0] * squares[1]).sqrt()
            torch.testing.assert_close(last(traced, network, name), expected)


def test_halves_are_the_values_of_originals_and_of_manipulated_exemplars(problem):
    traced = TraceBack(problem, rewritten(problem)).features(SHORT)
    assert traced.before.losses.shape == (101, 6)
    for shown, chosen in (("original", slice(3)), ("manipulated", slice(3, None))):
        half = traced.of(shown)
        torch.testing.assert_close(half.after.found, traced.after.found[chosen])
        torch.testing.assert_close(half.after.losses, traced.after.losses[:, chosen])


def test_images_are_found_by_both_weights(problem):
    weight = rewritten(problem)
    settings = ReconstructionSettings(num_steps=150, learning_rate=0.05)
    with Untouched(problem.block.network):
        traced = TraceBack(problem, weight, count=2).images(ORIGINALS, MANIPULATED, settings, distance)
    block = problem.block
    both = torch.cat([ORIGINALS[:2], MANIPULATED[:2]])
    with torch.no_grad():
        wanted = block.values(block.inputs(both))
    for reconstruction, by in ((traced.before, problem.weight), (traced.after, weight)):
        assert (reconstruction.loss_ratios >= 10).all()
        with torch.no_grad():
            error = (block.values(block.inputs(reconstruction.found), by) - wanted).flatten(1).square().sum(1)
        torch.testing.assert_close(error / wanted.flatten(1).square().sum(1), reconstruction.losses[-1])
        assert ((reconstruction.found >= 0) & (reconstruction.found <= 1)).all()
        for name, some in (("original", ORIGINALS[:2]), ("manipulated", MANIPULATED[:2])):
            expected = distance(reconstruction.found, torch.cat([some, some]))
            torch.testing.assert_close(reconstruction.watched[name][-1], expected)


def test_a_fixed_seed_gives_the_same_arrays(problem):
    weight = rewritten(problem)
    first, second = (TraceBack(problem, weight).features(SHORT) for _ in range(2))
    assert torch.equal(first.after.found, second.after.found)
    assert torch.equal(first.after.watched["original"], second.after.watched["original"])


def test_features_of_a_linear_layer_have_no_mask():
    problem = linear_problem(2)
    trace = TraceBack(problem, rewritten(problem))
    traced = trace.features(ReconstructionSettings(num_steps=400))
    assert trace.feature_mask is None
    assert (traced.before.loss_ratios >= 10).all()
    _, targets = trace.exemplar_features
    expected = functional.cosine_similarity(traced.after.found, torch.cat([targets, targets]))
    torch.testing.assert_close(last(traced, "after", "original"), expected)


@pytest.mark.parametrize(
    ("weight", "options", "message"),
    [
        (torch.zeros(4, 4, 1, 1), {}, r"the weight of 'second' is \[4, 4, 3, 3\], the rewritten one \[4, 4, 1, 1\]"),
        (torch.zeros(4, 4, 3, 3), {"values": "all"}, "'unedited' network or its 'own': 'all'"),
        (torch.zeros(4, 4, 3, 3), {"count": 0}, "count must be at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused(problem, weight, options, message):
    with pytest.raises(UserError, match=message):
        TraceBack(problem, weight, **options)


@pytest.mark.parametrize(
    ("originals", "manipulated", "message"),
    [
        (ORIGINALS, MANIPULATED[..., :5], r"got \[3, 3, 6, 6\] and \[3, 3, 6, 5\]"),
        (ORIGINALS[:2], MANIPULATED[:2], r"images of the 3 exemplars .* got \[2, 3, 6, 6\] and \[2, 3, 6, 6\]"),
        (ORIGINALS[:, :1], MANIPULATED[:, :1], "are not what the network takes"),
    ],
)
def test_images_that_do_not_fit_are_refused(problem, originals, manipulated, message):
    trace = TraceBack(problem, problem.weight)
    with pytest.raises(UserError, match=message):
        trace.images(originals, manipulated, SHORT, distance)
