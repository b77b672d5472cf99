"""Numbers that no bound can be made of are refused by their names, by every function of the room."""

import math
from collections.abc import Callable

import pytest
import torch

from editable.editing import (
    HarmBudget,
    candidate_bounds,
    certified_in_order,
    images_needed,
    stream_risk,
    tail_probability,
    upper_bound,
)
from editable.editing.bounds.binomial import bound_at_risk
from tests.editing.ends_of_ranges import refused_by_name

COUNTS = torch.tensor([1, 2])
REFUSED: list[tuple[str, Callable[[float], object], list[float]]] = [
    ("level", lambda level: upper_bound(1, 10, level), [0.0, 1.0, math.nan]),
    ("risk", lambda risk: bound_at_risk(1, 10, risk), [-1e-9, 1.0]),
    ("rate", lambda rate: tail_probability(1, 10, rate), [-1e-9, 1.1]),
    ("budget", lambda budget: images_needed(budget), [0.0, 1.0]),
    ("level", lambda level: images_needed(0.1, level), [0.0, 1.0]),
    ("level", lambda level: candidate_bounds(COUNTS, 10, level), [0.0, 1.0]),
    ("budget", lambda budget: certified_in_order(COUNTS, 10, budget), [0.0, 1.0]),
    ("level", lambda level: certified_in_order(COUNTS, 10, 0.1, level), [0.0, 1.0]),
    ("num_images", lambda number: upper_bound(0, number), [0, -1]),
    ("num_images", lambda number: HarmBudget().decide(0, number), [0, -1]),
    ("candidates", lambda number: HarmBudget().decide(0, 10_000, number), [0, -1]),
    ("num_images", lambda number: HarmBudget().require_stream(number, 5), [0, -1]),
    ("num_edits", lambda number: HarmBudget().require_stream(10_000, number), [0, -1]),
    ("number", lambda number: stream_risk(0.05, number), [0, -1]),
]


@pytest.mark.parametrize(("name", "call", "values"), REFUSED)
def test_the_name_is_said(name: str, call: Callable[[float], object], values: list[float]):
    assert refused_by_name(name, call, values) == values
