"""The selection rule: most errors corrected at an overall drop of at most a quarter of a point."""

import itertools
import random

import pytest

from editable.errors import UserError
from editable.rewriting.solvers.selection import Candidate, choose_candidate, errors_corrected


def candidate(name: str, corrected: float | None, drop: float, strength: float = 1.0) -> Candidate:
    return Candidate({"name": name}, strength, corrected, drop)


def test_errors_corrected_is_a_fraction_of_those_before():
    assert errors_corrected(8, 6) == 0.25
    assert errors_corrected(8, 0) == 1.0
    assert errors_corrected(8, 8) == 0.0
    assert errors_corrected(8, 12) == -0.5


def test_errors_corrected_is_undefined_where_there_was_none():
    assert errors_corrected(0, 0) is None
    assert errors_corrected(0, 3) is None


def test_errors_corrected_of_negative_numbers():
    with pytest.raises(UserError, match="after must be at least 0, got -1"):
        errors_corrected(3, -1)


def test_most_corrected_within_the_limit():
    candidates = [candidate("a", 0.2, 0.0), candidate("b", 0.5, 0.002), candidate("c", 0.9, 0.003)]
    assert choose_candidate(candidates) == candidates[1]
    assert choose_candidate(candidates, max_drop=0.0) == candidates[0]
    assert choose_candidate(candidates, max_drop=0.01) == candidates[2]


def test_equals_sorting_by_hand():
    generator = random.Random(0)
    for _ in range(200):
        candidates = [
            Candidate(
                {"index": index},
                generator.choice([0.5, 1.0]),
                generator.choice([None, -0.1, 0.0, 0.1, 0.2]),
                generator.choice([-0.01, 0.0, 0.002, 0.01]),
            )
            for index in range(generator.randrange(6))
        ]
        best = None
        for one in candidates:
            if one.corrected is None or one.corrected <= 0 or one.drop > 0.0025:
                continue
            if best is None or (one.corrected, -one.drop, -one.strength) > (best.corrected, -best.drop, -best.strength):
                best = one
        assert choose_candidate(candidates) == best


def test_among_equals_the_smaller_drop_then_the_smaller_strength_then_the_first():
    candidates = [
        candidate("large drop", 0.5, 0.001, 0.5),
        candidate("strong", 0.5, 0.0, 1.0),
        candidate("weak", 0.5, 0.0, 0.5),
        candidate("weak again", 0.5, 0.0, 0.5),
    ]
    assert choose_candidate(candidates).settings["name"] == "weak"
    for order in itertools.permutations(candidates[:3]):
        assert choose_candidate(order).settings["name"] == "weak"


def test_a_drop_at_the_limit_is_allowed_in_spite_of_rounding():
    assert 0.9 - 0.8975 > 0.0025
    assert choose_candidate([candidate("a", 0.5, 0.9 - 0.8975)]) is not None
    assert choose_candidate([candidate("a", 0.5, 0.9 - 0.8974)]) is None


def test_a_gain_in_accuracy_is_no_drop():
    assert choose_candidate([candidate("a", 0.1, -0.3)]) is not None


@pytest.mark.parametrize("corrected", [None, 0.0, -0.5])
def test_none_where_nothing_is_corrected(corrected: float | None):
    assert choose_candidate([candidate("a", corrected, 0.0)]) is None


def test_none_without_candidates_or_within_the_limit():
    assert choose_candidate([]) is None
    assert choose_candidate([candidate("a", 0.9, 0.5), candidate("b", 0.9, float("nan"))]) is None


def test_a_limit_that_is_no_number():
    with pytest.raises(UserError, match=r"max_drop must be in \[-1, 1\], got nan"):
        choose_candidate([], float("nan"))
