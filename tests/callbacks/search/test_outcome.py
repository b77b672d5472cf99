"""Which rate is chosen, what is advised, and which figures are logged, of outcomes made by hand."""

import re

import pytest

from tests.callbacks.search.outcomes import RATES, search_outcome


def test_least_drawdown_among_rates_with_enough_successes() -> None:
    assert search_outcome().chosen == RATES[1]
    assert search_outcome(min_success=0.96).chosen == RATES[2]
    assert search_outcome(RATES[:1]).chosen is None


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        (RATES, None),
        (RATES[1:], r"the chosen learning rate, 0\.0001, is the lowest one searched: search lower ones"),
        (RATES[:2], r"the chosen learning rate, 0\.0001, is the highest one searched: search higher ones"),
        (RATES[1:2], None),
    ],
)
def test_a_best_rate_at_an_end_asks_for_a_wider_grid(rates: list, words: str | None) -> None:
    advice = search_outcome(rates).advice
    if words is None:
        assert advice is None
    else:
        assert re.match(words, advice or "")


def test_what_to_do_where_no_rate_has_enough_successes() -> None:
    inner = [RATES[0], RATES[1]._replace(success_rate=0.9), RATES[2]._replace(success_rate=0.8)]
    advice = search_outcome(inner).advice
    assert advice == (
        "no learning rate from 1e-05 to 0.001 has a success rate of 0.95; the highest is 0.9, at 0.0001: let an edit "
        "take more steps (the editor's max_steps), or accept fewer successes (search.min_success)"
    )
    assert "search higher ones (search.highest)" in (search_outcome(inner[:2]).advice or "")
    assert "search lower ones (search.lowest)" in (search_outcome(inner[1:]).advice or "")


def test_logged_figures_are_those_of_the_chosen_rate() -> None:
    counts = {"num_edits": 20.0, "num_rates": 3.0, "num_scoring_images": 200.0, "scoring_error": 0.1}
    chosen = {"learning_rate": 1e-4, "drawdown": 0.02, "success_rate": 0.95, "num_steps": 3.5}
    assert search_outcome().values() == {**counts, **chosen}
    with_intervals = search_outcome([rate._replace(half_width=0.002, num_sampled_images=9) for rate in RATES])
    assert with_intervals.sampled
    assert with_intervals.values() == {**counts, **chosen, "drawdown_half_width": 0.002}
    assert search_outcome(min_success=1.1).values() == counts
