"""Numbers that no step can be made with are refused by their names, to the very end of their ranges."""

from collections.abc import Callable

import pytest

from editable.editing import GD, Adam, AdaptiveRProp, Momentum, RMSProp, RProp, ScaledGD
from tests.editing.ends_of_ranges import Ends, refused_by_name

REFUSED: list[Ends] = [
    ("learning_rate", lambda value: GD(learning_rate=value), [0.0, -1e-9], [1e-9]),
    ("learning_rate", lambda value: ScaledGD(learning_rate=value), [0.0, -1e-9], [1e-9]),
    ("learning_rate", lambda value: Momentum(learning_rate=value), [0.0, -1e-9], [1e-9]),
    ("learning_rate", lambda value: RMSProp(learning_rate=value), [0.0, -1e-9], [1e-9]),
    ("learning_rate", lambda value: RProp(learning_rate=value), [0.0, -1e-9], [1e-9]),
    ("learning_rate", lambda value: AdaptiveRProp(learning_rate=value), [0.0, -1e-9], [1e-9]),
    ("learning_rate", lambda value: Adam(learning_rate=value), [0.0, -1e-9], [1e-9]),
    ("decay", lambda value: Momentum(0.1, decay=value), [-1e-9, 1.0], [0.0, 1.0 - 1e-9]),
    ("decay", lambda value: Momentum(0.1, decay=value, learn_decay=True), [0.0, 1.0], [1e-9, 1.0 - 1e-9]),
    ("decay", lambda value: RMSProp(0.1, decay=value), [-1e-9, 1.0], [0.0, 1.0 - 1e-9]),
    ("decay", lambda value: RMSProp(0.1, decay=value, learn_decay=True), [0.0, 1.0], [1e-9, 1.0 - 1e-9]),
    ("decay", lambda value: Adam(0.1, decay=value), [-1e-9, 1.0], [0.0, 1.0 - 1e-9]),
    ("decay", lambda value: Adam(0.1, decay=value, learn_decay=True), [0.0, 1.0], [1e-9, 1.0 - 1e-9]),
    ("square_decay", lambda value: Adam(0.1, square_decay=value), [-1e-9, 1.0], [0.0, 1.0 - 1e-9]),
    ("epsilon", lambda value: ScaledGD(0.1, epsilon=value), [-1e-9], [0.0]),
    ("epsilon", lambda value: RMSProp(0.1, epsilon=value), [-1e-9], [0.0]),
    ("epsilon", lambda value: Adam(0.1, epsilon=value), [-1e-9], [0.0]),
    ("shrink", lambda value: AdaptiveRProp(0.1, shrink=value), [0.0, 1.0], [1e-9, 1.0 - 1e-9]),
    ("learning_rate", GD(0.1).with_learning_rate, [0.0, -1e-9], [1e-9]),
]


@pytest.mark.parametrize(("name", "call", "values", "ends"), REFUSED)
def test_the_name_is_said(name: str, call: Callable[..., object], values: list[float], ends: list[float]) -> None:
    assert refused_by_name(name, call, values, ends) == values
