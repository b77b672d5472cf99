"""Numbers that no closed form can be computed with are refused by their names, to the very end of their ranges."""

from collections.abc import Callable

import pytest

from editable.editing import (
    CodebookEditor,
    LastLayerRetraining,
    MinimalHarmEditor,
    NeuronEditor,
    NullSpaceEditor,
    RidgeEditor,
)
from tests.editing.ends_of_ranges import Ends, refused_by_name

REFUSED: list[Ends] = [
    ("threshold", lambda value: CodebookEditor(threshold=value), [0.0, 1.0 + 1e-9], [1e-9, 1.0]),
    ("merge", lambda value: CodebookEditor(merge=value), [0.0, 1.0 + 1e-9], [1e-9, 1.0]),
    ("firing_rate", lambda value: CodebookEditor(firing_rate=value), [-1e-9, 1.0 + 1e-9], [0.0, 1.0]),
    ("radius", lambda value: CodebookEditor(radius=value), [-1e-9, 1.0], [0.0, 1.0 - 1e-9]),
    ("epsilon", lambda value: CodebookEditor(epsilon=value), [-1e-9], [0.0]),
    ("strength", lambda value: CodebookEditor(strength=value), [-1e-9], [0.0]),
    ("margin", lambda value: CodebookEditor(margin=value), [-1e-9], [0.0]),
    ("power", lambda value: CodebookEditor(power=value), [0.0, -1e-9], [1e-9]),
    ("num_references", lambda value: CodebookEditor(num_references=value), [0], [1]),
    ("margin", lambda value: RidgeEditor(margin=value), [0.0, -1e-9], [1e-9]),
    ("num_references", lambda value: RidgeEditor(num_references=value), [0], [1]),
    ("margin", lambda value: NullSpaceEditor(margin=value), [0.0, -1e-9], [1e-9]),
    ("num_references", lambda value: NullSpaceEditor(num_references=value), [0], [1]),
    ("margin", lambda value: MinimalHarmEditor(margin=value), [0.0, -1e-9], [1e-9]),
    ("num_references", lambda value: MinimalHarmEditor(num_references=value), [0], [1]),
    ("margin", lambda value: NeuronEditor(margin=value), [0.0, -1e-9], [1e-9]),
    ("num_references", lambda value: NeuronEditor(num_references=value), [0], [1]),
    ("strength", lambda value: RidgeEditor(strength=value), [0.0, -1e-9], [1e-9]),
    ("epsilon", lambda value: RidgeEditor(epsilon=value), [-1e-9], [0.0]),
    ("energy", lambda value: NullSpaceEditor(energy=value), [0.0, 1.0], [1e-9, 1.0 - 1e-9]),
    ("penalty", lambda value: NullSpaceEditor(penalty=value), [0.0, -1e-9], [1e-9]),
    ("softness", lambda value: MinimalHarmEditor(softness=value), [-1e-9], [0.0]),
    ("epsilon", lambda value: MinimalHarmEditor(epsilon=value), [-1e-9], [0.0]),
    ("max_steps", lambda value: MinimalHarmEditor(max_steps=value), [0], [1]),
    ("silence", lambda value: NeuronEditor(silence=value), [0.0, -1e-9], [1e-9]),
    ("epsilon", lambda value: NeuronEditor(epsilon=value), [-1e-9], [0.0]),
    ("margin", lambda value: LastLayerRetraining(margin=value), [-1e-9], [0.0]),
    ("gamma", lambda value: LastLayerRetraining(gamma=value), [-1e-9], [0.0]),
    ("strength", lambda value: LastLayerRetraining(strength=value), [0.0, -1e-9], [1e-9]),
    ("edit_weight", lambda value: LastLayerRetraining(edit_weight=value), [0.0, -1e-9], [1e-9]),
    ("max_steps", lambda value: LastLayerRetraining(max_steps=value), [0], [1]),
    ("num_references", lambda value: LastLayerRetraining(num_references=value), [0], [1]),
]


@pytest.mark.parametrize(("name", "call", "values", "ends"), REFUSED)
def test_the_name_is_said(name: str, call: Callable[..., object], values: list[float], ends: list[float]) -> None:
    assert refused_by_name(name, call, values, ends) == values
