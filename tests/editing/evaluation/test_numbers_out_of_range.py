"""Numbers that no edit can be judged with are refused by their names, to the very end of their ranges."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from editable.editing import (
    GD,
    DrawdownSampler,
    EditEvaluator,
    Editor,
    SamplingSettings,
)
from editable.editing.evaluation.feature_store import FeatureStore
from editable.editing.evaluation.learning_rates import learning_rate_grid
from editable.editing.evaluation.stream import StreamEvaluator
from editable.editing.evaluation.together import Together
from editable.models import SplitNetwork
from tests.editing.ends_of_ranges import Ends, refused_by_name

CPU = torch.device("cpu")
MARGINS = torch.linspace(-1, 9, 100)
EDITOR = Editor(GD(0.1))
SPLIT = SplitNetwork(nn.Sequential(nn.Linear(2, 2)), "0")


def evaluator(num_images: int = 4, **numbers: float) -> EditEvaluator:
    return EditEvaluator(SPLIT, EDITOR, [], num_images, CPU, **numbers)


REFUSED: list[Ends] = [
    ("num_images", lambda value: evaluator(num_images=value), [0, -1], [1]),
    ("image_stride", lambda value: evaluator(image_stride=value), [0, -1], [1]),
    ("edits_at_once", lambda value: evaluator(edits_at_once=value), [0, -1], [1]),
    ("memory_budget", lambda value: evaluator(memory_budget=value), [0.0, -1e-9], [1e-9]),
    ("sensitive_margin", lambda value: evaluator(sensitive_margin=value), [-1e-9, 1.0 + 1e-9], [0.0, 1.0]),
    ("num_rows", lambda value: FeatureStore(value, 0, CPU), [-1], [0]),
    ("memory_budget", lambda value: FeatureStore(1, value, CPU), [-1, 2**63], [0, 2**63 - 1]),
    ("memory_budget", lambda value: StreamEvaluator(SPLIT, EDITOR, memory_budget=value), [0.0, -1e-9], [1e-9]),
    ("num_corrections", lambda value: StreamEvaluator(SPLIT, EDITOR).expect(value, 0, 0), [0, -1], [1]),
    ("size", lambda value: list(FeatureStore(0, 0, CPU).batches(value)), [0, -1], [1]),
    ("per_decade", lambda value: learning_rate_grid(0.1, 1.0, value), [0, 1001], [1, 1000]),
    ("lowest", lambda value: learning_rate_grid(value, 1.0, 1), [0.0, -1e-9], [1e-9]),
    ("lowest", lambda value: learning_rate_grid(value, 0.1, 1), [0.2], [0.1]),
    ("half_width", lambda value: SamplingSettings(half_width=value), [0.0, 1.0], [1e-9, 1.0 - 1e-9]),
    ("forward_passes", lambda value: SamplingSettings(forward_passes=value), [0], [1]),
    ("seed", lambda value: SamplingSettings(0.1, seed=value), [-1, 2**32], [0, 2**32 - 1]),
    ("seed", lambda value: DrawdownSampler(MARGINS, 3, half_width=0.1, seed=value), [-1, 2**32], [0, 2**32 - 1]),
    ("half_width", lambda value: DrawdownSampler(MARGINS, 3, half_width=value), [0.0, 1.0], [1e-9, 1.0 - 1e-9]),
    ("num", lambda value: DrawdownSampler(MARGINS, 3, half_width=0.1).draw(value), [0, -1], [1, 3]),
    ("num", lambda value: DrawdownSampler(MARGINS, 3, half_width=0.1).draw_pilot(value), [0, -1], [1, 3]),
    ("number", lambda value: Together(value, "edits"), [0, -1], [1]),
]


@pytest.mark.parametrize(("name", "call", "values", "ends"), REFUSED)
def test_the_name_is_said(name: str, call: Callable[..., object], values: list[float], ends: list[float]) -> None:
    assert refused_by_name(name, call, values, ends) == values
