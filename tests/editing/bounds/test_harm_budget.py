"""A budget keeps what it may, says how many images it takes, and holds over repeats: also where the naive way fails.

An edited network is here the set of images that it breaks, of which each draw of images shows a part: an edit with a
true harm p breaks each image with probability p. Kept edits go on breaking what they broke.
"""

import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from editable.editing import HarmBudget, Spending, candidate_bounds, certified_in_order, stream_risk, upper_bound
from editable.errors import UserError

REPEATS, IMAGES, BUDGET, LEVEL = 300, 1500, 0.02, 0.95
JUST_ABOVE = 1.02 * BUDGET


def test_decisions_at_the_edge():
    """Of 5000 images, 16 broken have the bound 0.494 %, 17 the bound 0.517 % (sums of binomial terms)."""
    budget = HarmBudget(0.005)
    assert budget.decide(16, 5000).kept
    assert not budget.decide(17, 5000).kept
    assert budget.decide(16, 5000).bound == upper_bound(16, 5000).item()
    assert not budget.decide(16, 5000, candidates=10).kept
    assert budget.decide(16, 5000, candidates=10).level == pytest.approx(0.995)


def test_a_stream_goes_on_from_what_was_spent():
    budget, spent, kept = HarmBudget(0.005), None, []
    for number, broken in enumerate([0, 3, 60, 4, 90, 5], start=1):
        refused = kept.count(False)
        decision = budget.decide_next(broken, 6000, spent)
        assert decision.level == pytest.approx(1 - stream_risk(0.05, number, refused), rel=1e-12)
        assert decision.bound == pytest.approx(upper_bound(broken, 6000, decision.level).item(), rel=1e-9)
        spent = pickle.loads(pickle.dumps(decision.spent))
        kept.append(decision.kept)
    assert kept == [True, True, False, True, False, True]
    assert spent == Spending(6, 2)


@pytest.mark.parametrize("kind", ["one", "candidates", "stream", "long stream"])
def test_too_few_images_are_said_with_how_many_it_takes(kind: str):
    budget = HarmBudget(0.0025)
    calls: dict[str, Callable[[int], object]] = {
        "one": lambda number: budget.decide(0, number),
        "candidates": lambda number: budget.decide(0, number, candidates=5),
        "stream": lambda number: budget.decide_next(0, number),
        "long stream": lambda number: budget.require_stream(number, 100),
    }
    with pytest.raises(UserError, match=r"at most 0\.25 points at a level of 95 %, even if none of them is broken"):
        calls[kind](100)
    with pytest.raises(UserError) as raised:
        calls[kind](100)
    needed = int(str(raised.value).partition("give at least ")[2].partition(",")[0])
    calls[kind](needed)
    with pytest.raises(UserError):
        calls[kind](needed - 1)
    if kind == "one":
        assert needed == 1197


def test_so_many_clean_images_are_enough():
    budget, spent = HarmBudget(0.0025), None
    for _ in range(20):
        decision = budget.decide_next(0, 5000, spent)
        assert decision.kept
        assert decision.needed <= 5000
        spent = decision.spent
    assert not budget.decide_next(0, decision.needed - 1, Spending(19, 0)).kept
    assert budget.decide_next(0, decision.needed, Spending(19, 0)).kept


def test_a_whole_stream_takes_what_its_last_edit_takes():
    budget = HarmBudget(0.0025)
    needed = budget.decide_next(0, 10_000, Spending(99, 0)).needed
    budget.require_stream(needed, 100)
    with pytest.raises(UserError, match=f"give at least {needed},"):
        budget.require_stream(needed - 1, 100)


def test_a_budget_of_nothing_and_other_mistakes():
    with pytest.raises(UserError, match=r"budget must be above 0, got 0: .* takes 1197 images, none of them changed"):
        HarmBudget(0, counts="changed")
    with pytest.raises(UserError, match="counts must be 'broken' or 'changed', got 'mended'"):
        HarmBudget(counts="mended")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="budget must be in"):
        HarmBudget(1.0)
    for name in ("budget", "level"):
        with pytest.raises(UserError, match=f"{name} must be a number in .* got None"):
            HarmBudget(**{name: None})
    with pytest.raises(UserError, match="at least one"):
        candidate_bounds(torch.zeros(0), 10)


class Naive(HarmBudget):
    """Tests each edit of a stream as if it were the only one."""

    def decide_next(self, count: int, num_images: int, spent: Spending | None = None):
        return self.decide(count, num_images)


def run_stream(budget: HarmBudget, harms: Tensor, generator: torch.Generator) -> tuple[bool, bool, int]:
    """Return whether all bounds held, whether the budget was kept to, and how many edits were kept."""
    broken, unharmed = torch.zeros(IMAGES, dtype=torch.bool), 1.0
    spent, held, within, kept = None, True, True, 0
    for harm in harms.tolist():
        after = broken | (torch.rand(IMAGES, generator=generator) < harm)
        truth = 1 - unharmed * (1 - harm)
        decision = budget.decide_next(int(after.sum()), IMAGES, spent)
        spent, held = decision.spent, held and truth <= decision.bound
        if decision.kept:
            broken, unharmed, within, kept = after, 1 - truth, within and truth <= budget.budget, kept + 1
    return held, within, kept


def random_harms(generator: torch.Generator) -> Tensor:
    """Most edits break next to nothing, some a lot."""
    return torch.rand(30, generator=generator) ** 8 * 0.05


def adversarial_harms(generator: torch.Generator) -> Tensor:
    """Each edit would lead just above the budget, so that none may be kept, and chance is tried sixty times."""
    return torch.full((60,), JUST_ABOVE)


@pytest.mark.parametrize("harms", [random_harms, adversarial_harms])
def test_bounds_and_budget_hold_along_streams(harms: Callable[[torch.Generator], Tensor]):
    generator = torch.Generator().manual_seed(11)
    budget = HarmBudget(BUDGET, LEVEL)
    runs = [run_stream(budget, harms(generator), generator) for _ in range(REPEATS)]
    held, within, kept = (torch.tensor(some, dtype=torch.float64) for some in zip(*runs, strict=True))
    assert held.mean() >= LEVEL
    assert within.mean() >= LEVEL
    if harms is random_harms:
        assert kept.mean() > 5, "it holds because nothing is kept"


def test_the_naive_way_fails_along_the_same_stream():
    generator = torch.Generator().manual_seed(11)
    runs = [run_stream(Naive(BUDGET, LEVEL), adversarial_harms(generator), generator) for _ in range(REPEATS)]
    assert sum(within for _, within, _ in runs) < 0.5 * REPEATS
    assert sum(held for held, _, _ in runs) < 0.5 * REPEATS


def candidate_repeats(choose: Callable[[Tensor], Tensor], harms: Tensor, seed: int = 12) -> tuple[float, float]:
    """Return in which part of repeats no certified candidate breaks the budget, and in which any is certified."""
    generator = torch.Generator().manual_seed(seed)
    within = certified = 0
    for _ in range(REPEATS):
        counts = (torch.rand(len(harms), IMAGES, generator=generator) < harms[:, None]).sum(dim=1)
        chosen = choose(counts)
        within += bool((harms[chosen] <= BUDGET).all())
        certified += bool(chosen.any())
    return within / REPEATS, certified / REPEATS


HARMFUL = torch.full((20,), JUST_ABOVE)
MIXED = torch.tensor([0.001, 0.004, 0.01, JUST_ABOVE, 0.03] * 3)
WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "together": lambda counts: candidate_bounds(counts, IMAGES, LEVEL) <= BUDGET,
    "in order": lambda counts: certified_in_order(counts, IMAGES, BUDGET, LEVEL),
    "the best": lambda counts: (
        (counts == counts.min()) & HarmBudget(BUDGET).decide(int(counts.min()), IMAGES, len(counts)).kept
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_choosing_among_candidates_keeps_to_the_budget(way: str):
    assert candidate_repeats(WAYS[way], HARMFUL)[0] >= LEVEL
    within, certified = candidate_repeats(WAYS[way], MIXED)
    assert within >= LEVEL
    assert certified > 0.9


def test_the_naive_way_fails_among_the_same_candidates():
    naive, _ = candidate_repeats(lambda counts: upper_bound(counts, IMAGES, LEVEL) <= BUDGET, HARMFUL)
    assert naive < 0.8


def test_in_order_stops_at_the_first_that_fails():
    counts = torch.tensor([3, 4, 60, 3])
    assert certified_in_order(counts, IMAGES, BUDGET).tolist() == [True, True, False, False]


def test_changed_predictions_of_unlabelled_images_bound_broken_ones():
    """Who changes a prediction breaks it, mends it, or errs in another way: no labels, and still a bound of harm."""
    generator = torch.Generator().manual_seed(13)
    budget, held, kept = HarmBudget(BUDGET, LEVEL, counts="changed"), 0, 0
    for _ in range(REPEATS):
        changing = float(torch.rand((), generator=generator)) * 0.03
        breaking = changing * float(torch.rand((), generator=generator))
        changed = int((torch.rand(IMAGES, generator=generator) < changing).sum())
        decision = budget.decide(changed, IMAGES)
        held += breaking <= decision.bound
        kept += decision.kept
    assert held >= LEVEL * REPEATS
    assert kept > 0.2 * REPEATS
