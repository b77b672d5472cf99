"""`DrawdownSampler` estimates, without bias and with honest intervals, what looking at every image would give."""

import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from editable.editing import GD, DrawdownEstimate, DrawdownSampler, Editor, merge_estimates
from editable.errors import UserError
from editable.models import SplitNetwork

GROUP = 8
REPETITIONS = 300


def make_population(num_images: int, num_edits: int, strength: float = 0.7, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Margins [N], 7 % of them wrong, and changes [E, N]: edits of uneven strength add noise to each margin.

    Each edit also lowers the margins of some of ten classes. At strength 0.7 the mean drawdown is near 5 points.
    """
    generator = torch.Generator().manual_seed(seed)
    margins = torch.randn(num_images, generator=generator, dtype=torch.float64) * 2.5 + 3.7
    classes = torch.randint(10, (num_images,), generator=generator)
    strengths = strength * (0.8 * torch.randn(num_edits, 1, generator=generator, dtype=torch.float64)).exp()
    shifts = 2.5 * torch.rand(num_edits, 10, generator=generator, dtype=torch.float64)[:, classes] ** 4
    noise = 0.6 * torch.randn(num_edits, num_images, generator=generator, dtype=torch.float64)
    after = margins + strengths * (noise - shifts)
    return margins, (after <= 0).long() - (margins <= 0).long()


def evaluate(sampler: DrawdownSampler, changes: Tensor, pilot: bool = True) -> DrawdownEstimate:
    """What an evaluator does: edits in groups, those of 0 steps skipped, a pilot for the first group."""
    for group in changes.split(GROUP):
        unchanged = (group == 0).all(dim=1)
        sampler.skip(int(unchanged.sum()))
        active = group[~unchanged]
        if not len(active):
            continue
        for draw in (sampler.draw_pilot, sampler.draw) if pilot else (sampler.draw,):
            sample = draw(len(active))
            sampler.update(sample, active.gather(1, sample.indices))
        pilot = False
    return sampler.estimate()


def repeat(margins: Tensor, populations: tuple[Tensor, ...], **target: float) -> tuple[Tensor, Tensor]:
    """Errors and half-widths of many evaluations [R]."""
    rows = []
    for seed in range(REPETITIONS):
        changes = populations[seed % len(populations)]
        estimate = evaluate(DrawdownSampler(margins, len(changes), seed=seed, **target), changes)
        rows.append((estimate.drawdown - changes.double().mean().item(), estimate.half_width))
    errors, half_widths = torch.tensor(rows, dtype=torch.float64).unbind(dim=1)
    return errors, half_widths


def coverage(errors: Tensor, half_widths: Tensor) -> float:
    return float((errors.abs() <= half_widths + 1e-12).double().mean())


# Statistics


def test_unbiased_by_repetition() -> None:
    margins, changes = make_population(300, 6)
    for target in ({"forward_passes": 6 * 40}, {"half_width": 0.02}):
        errors, _ = repeat(margins, (changes,), **target)
        assert abs(errors.mean()) < 4 * errors.std() / REPETITIONS**0.5


@pytest.mark.parametrize("strength", [0.25, 0.7])
@pytest.mark.parametrize(("num_edits", "target"), [(1, {"forward_passes": 200}), (1, {"half_width": 0.01})])
def test_single_edits_are_covered(num_edits: int, strength: float, target: dict[str, float]) -> None:
    margins, changes = make_population(1000, REPETITIONS, strength)
    errors, half_widths = repeat(margins, changes.split(num_edits), **target)
    assert coverage(errors, half_widths) >= 0.93
    assert half_widths.mean() < 0.03


@pytest.mark.parametrize("target", [{"forward_passes": 10 * 200}, {"half_width": 0.01}])
def test_ten_edits_are_covered(target: dict[str, float]) -> None:
    margins, changes = make_population(1000, 300)
    errors, half_widths = repeat(margins, changes.split(10), **target)
    assert coverage(errors, half_widths) >= 0.93
    assert half_widths.mean() < 0.012


@pytest.mark.parametrize("target", [{"forward_passes": 100 * 100}, {"half_width": 0.003}])
def test_hundred_edits_are_covered_without_waste(target: dict[str, float]) -> None:
    margins, changes = make_population(1000, 100, seed=1)
    errors, half_widths = repeat(margins, (changes,), **target)
    assert coverage(errors, half_widths) >= 0.93
    assert half_widths.mean() < 1.5 * 1.96 * errors.std()
    if "half_width" in target:
        assert 0.0027 < half_widths.mean() < 0.0031


def test_edits_of_a_trained_network_are_covered() -> None:
    torch.manual_seed(0)
    images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    images = images.float() / 16
    network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images[:500]), labels[:500]).backward()
        optimizer.step()
    images, labels = images[500:], labels[500:]
    split = SplitNetwork(network, "2")
    features = split.prefix(images)
    chosen, asked = torch.randint(len(images), (40,)), torch.randint(10, (40,))
    inputs = tuple(feature[chosen].unsqueeze(1) for feature in features)
    params = {name: param.detach() for name, param in split.params.items()}
    result = Editor(GD(0.1), max_steps=10).edit_many(split.suffix, params, inputs, asked.unsqueeze(1))
    with torch.no_grad():
        logits = network(images)
        edited = torch.func.vmap(split.suffix, in_dims=(None, 0))(features, result.params)
    changes = (edited.argmax(dim=-1) != labels).long() - (logits.argmax(dim=-1) != labels).long()
    own = logits.gather(1, labels[:, None])[:, 0]
    margins = own - logits.scatter(1, labels[:, None], -math.inf).amax(dim=1)
    assert changes.double().mean() > 0.005
    for populations in (changes.split(1), changes.split(10), (changes,)):
        errors, half_widths = repeat(margins, populations, forward_passes=100 * len(populations[0]))
        assert coverage(errors, half_widths) >= 0.93


def test_needs_clearly_fewer_images_than_simple_random_sampling() -> None:
    margins, changes = make_population(4000, 300)
    half_width = 0.002
    estimate = evaluate(DrawdownSampler(margins, 300, half_width=half_width), changes)
    within = changes.double().var(dim=1).mean().item()
    allowed = 300 * (half_width / 1.96) ** 2
    simple = 300 * within / (allowed + within / 4000)
    assert 0.94 * half_width < estimate.half_width < half_width
    assert estimate.forward_passes < 0.7 * simple


# Samples


def test_right_and_wrong_images_share_no_stratum() -> None:
    margins, _ = make_population(1000, 1)
    sample = DrawdownSampler(margins, 4, forward_passes=400).draw(4)
    right = margins[sample.indices] > 0
    for stratum in sample.strata.unique():
        assert len(right[:, sample.strata == stratum].unique()) == 1


@pytest.mark.parametrize("num_images", [1, 2, 3, 5, 20, 400])
@pytest.mark.parametrize("equal", [False, True])
def test_samples_are_distinct_images_at_least_two_of_each_stratum(num_images: int, equal: bool) -> None:
    margins, changes = make_population(num_images, 5)
    if equal:
        margins = torch.ones(num_images)
    sampler = DrawdownSampler(margins, 5, half_width=0.1)
    for draw in (sampler.draw_pilot, sampler.draw):
        sample = draw(5)
        assert all(len(set(row)) == len(row) for row in sample.indices.tolist())
        assert sample.indices.shape == (5, len(sample.strata))
        if num_images == 400 or (equal and num_images > 1 and len(sample.strata)):
            assert sample.strata.bincount().min() >= 2
        drawdowns = sampler.update(sample, changes.gather(1, sample.indices))
    assert drawdowns.shape == (5,)


def test_each_edit_has_images_of_its_own() -> None:
    margins, _ = make_population(1000, 1)
    sample = DrawdownSampler(margins, 4, forward_passes=400).draw(4)
    assert len({frozenset(row) for row in sample.indices.tolist()}) == 4


def test_small_margins_are_looked_at_more() -> None:
    margins, changes = make_population(1000, 80)
    sampler = DrawdownSampler(margins, 80, forward_passes=80 * 100)
    evaluate(sampler, changes[:72])
    looked = margins[sampler.draw(8).indices].abs()
    assert looked.median() < margins.abs().median() / 1.3


@pytest.mark.parametrize("per_edit", [4, 7, 24, 60, 250])
@pytest.mark.parametrize("num_edits", [1, 5, 30])
def test_budget_is_kept_and_used(num_edits: int, per_edit: int) -> None:
    margins, changes = make_population(200, num_edits, seed=1)
    changes[:, 0] = 1  # no edit is skipped
    budget = per_edit * num_edits
    estimate = evaluate(DrawdownSampler(margins, num_edits, forward_passes=budget), changes)
    assert 0.9 * min(budget, 200 * num_edits) - 2 * num_edits <= estimate.forward_passes <= budget


@pytest.mark.parametrize(("budget", "size"), [(419, 0), (420, 4)])
def test_a_pilot_leaves_each_edit_its_least_sample(budget: int, size: int) -> None:
    """Four images at least for each of 100 edits, and a twentieth of the passes, 4 for each of five, for the pilot."""
    sampler = DrawdownSampler(torch.linspace(-1, 9, 100), 100, forward_passes=budget)
    assert sampler.draw_pilot(5).indices.shape == (5, size)


@pytest.mark.parametrize("target", [{"half_width": 0.02}, {"forward_passes": 40 * 30}])
def test_a_sampler_goes_on_from_where_another_one_was(target: dict[str, float]) -> None:
    margins, changes = make_population(500, 40)
    whole, first, second = (DrawdownSampler(margins, 40, seed=seed, **target) for seed in (3, 3, 4))
    evaluate(first, changes[: 2 * GROUP])
    second.load_state_dict(first.state_dict())
    assert second.estimate() == first.estimate()
    estimate = evaluate(second, changes[2 * GROUP :], pilot=False)
    assert estimate == evaluate(whole, changes)
    assert torch.equal(second.drawdowns, whole.drawdowns)
    assert torch.equal(second.sample_sizes, whole.sample_sizes)


def test_what_skipped_edits_save_goes_to_the_others() -> None:
    margins, changes = make_population(1000, 80)
    changes[::2] = 0
    sampler = DrawdownSampler(margins, 80, forward_passes=80 * 50)
    estimate = evaluate(sampler, changes)
    assert estimate.num_edits == len(sampler.drawdowns) == 80
    assert 0.95 * 80 * 50 < estimate.forward_passes <= 80 * 50
    assert (sampler.sample_sizes == 0).sum() == (sampler.drawdowns == 0).sum() == 40
    assert abs(estimate.drawdown - changes.double().mean()) < 2 * estimate.half_width


def test_looking_at_every_image_is_exact() -> None:
    margins, changes = make_population(50, 4)
    changes[:, 0] = 1  # no edit is skipped
    for target in ({"half_width": 1e-6}, {"forward_passes": 4 * 50}):
        estimate = evaluate(DrawdownSampler(margins, 4, **target), changes, pilot=False)
        assert estimate.half_width == 0
        assert estimate.forward_passes == 200
        assert estimate.drawdown == pytest.approx(changes.double().mean().item(), abs=1e-12)


def test_same_seed_same_draws_and_no_global_randomness() -> None:
    margins, changes = make_population(500, 20)
    state = torch.get_rng_state()
    first, second, other = (
        evaluate(DrawdownSampler(margins, 20, half_width=0.02, seed=seed), changes) for seed in (3, 3, 4)
    )
    assert first == second
    assert first != other
    assert torch.equal(torch.get_rng_state(), state)


# Ranks


@pytest.mark.parametrize("target", [{"half_width": 0.005}, {"forward_passes": 90 * 80}])
def test_ranks_reach_the_target_together(target: dict[str, float]) -> None:
    margins, changes = make_population(1000, 90)
    ranks = enumerate(changes.split(60))
    merged = merge_estimates(
        evaluate(DrawdownSampler(margins, len(part), total_edits=90, seed=rank, **target), part) for rank, part in ranks
    )
    assert merged.num_edits == 90
    assert abs(merged.drawdown - changes.double().mean()) < 2 * merged.half_width
    if "half_width" in target:
        assert 0.0045 < merged.half_width < 0.0051
    else:
        assert merged.forward_passes <= 90 * 80


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "forward_passes=None, half_width=None"),
        ({"forward_passes": 900, "half_width": 0.1}, "forward_passes=900, half_width=0.1"),
        ({"half_width": 0.0}, "half_width .* 0.0"),
        ({"half_width": 1.0}, "half_width .* 1.0"),
        ({"num_edits": 0, "half_width": 0.1}, "num_edits must be at least 1, got 0"),
        ({"total_edits": 2, "half_width": 0.1}, "total_edits must be at least 3, got 2"),
        ({"forward_passes": 11}, "forward_passes must be at least 12, 4 for each of 3 edits, got 11"),
        ({"margins": torch.zeros(0), "half_width": 0.1}, "margins"),
        ({"margins": torch.tensor([math.nan]), "half_width": 0.1}, "margins"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        DrawdownSampler(**{"margins": torch.linspace(-1, 9, 100), "num_edits": 3, **arguments})


def test_the_least_budget_named_is_enough() -> None:
    sample = DrawdownSampler(torch.linspace(-1, 9, 100), 3, forward_passes=12).draw(3)
    assert sample.indices.shape == (3, 4)


def test_wrong_outcomes_are_named() -> None:
    sampler = DrawdownSampler(torch.linspace(-1, 9, 100), 3, forward_passes=90)
    first, second = sampler.draw(2), sampler.draw(2)
    changes = torch.zeros_like(second.indices)
    with pytest.raises(UserError, match="call draw"):
        sampler.update(first, changes)
    with pytest.raises(UserError, match=r"shape \[2, \d+\], got \[1, "):
        sampler.update(second, changes[:1])
    with pytest.raises(UserError, match="-1, 0 or 1, got 2"):
        sampler.update(second, changes + 2)
    sampler.update(second, changes)
    with pytest.raises(UserError, match="call draw"):
        sampler.update(second, changes)
    for more in (sampler.draw, sampler.draw_pilot, sampler.skip):
        with pytest.raises(UserError, match="num_edits is 3, of which 1 are left, got 2"):
            more(2)
