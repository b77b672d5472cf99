"""What is logged of a look is computed from its outcome alone."""

from pathlib import Path

import pytest

from editable.callbacks.run.outcome_file import read_outcome, write_outcome
from editable.callbacks.see.outcome import SeeingOutcome
from tests.callbacks.same_outcome import assert_same
from tests.callbacks.see.made_up import made_up


def test_values_are_those_of_the_originals():
    values = made_up().values()
    plain = {"num_exemplars": 2, "relative_norm": 0.25, "loss_before": 0.5, "loss": 0.125, "response_ratio": 0.5}
    assert {name: values.pop(name) for name in plain} == plain
    for stage, measure in (("keys", "similarity"), ("features", "similarity"), ("images", "standin")):
        for when, original, manipulated in (("_before", 1.0, 0.25), ("", 0.25, 1.0)):
            assert values.pop(f"{stage}_loss_ratio{when}") == pytest.approx(10**1.5)  # of 10 and 100
            assert values.pop(f"{stage}_original_{measure}{when}") == original
            assert values.pop(f"{stage}_manipulated_{measure}{when}") == manipulated
    assert not values


def test_it_is_plain_data(tmp_path: Path):
    write_outcome(tmp_path / "see_outcome.pt", made_up())
    assert_same(read_outcome(tmp_path / "see_outcome.pt", SeeingOutcome), made_up())
