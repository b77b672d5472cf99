"""Numbers that no edit can be made with are refused by their names, to the very end of their ranges."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from editable.editing import (
    GD,
    BallEditor,
    BaseEditor,
    Editor,
    HigherEditor,
    LearnedEditor,
    LowRankEditor,
    MarginObjective,
    PreconditionedEditor,
    StrengthSearch,
)
from editable.errors import UserError
from tests.editing.ends_of_ranges import Ends, refused_by_name

PLAIN = Editor(GD(0.1))
REFUSED: list[Ends] = [
    ("margin", MarginObjective, [-1e-9], [0.0]),
    ("max_steps", lambda max_steps: Editor(GD(0.1), max_steps), [-1, 0.5], [0]),
    ("margin", lambda margin: Editor(GD(0.1), 1, margin), [-1e-9], [0.0]),
    ("radius", lambda radius: BallEditor(GD(0.1), radius), [0.0, -1e-9], [1e-9]),
    ("rank", lambda rank: LearnedEditor(rank), [0, -1], [1]),
    ("learning_rate", lambda rate: LearnedEditor(learning_rate=rate), [0.0, -1e-9], [1e-9]),
    ("max_steps", lambda max_steps: LearnedEditor(max_steps=max_steps), [-1], [0]),
    ("learning_rate", LearnedEditor().with_learning_rate, [0.0, -1e-9], [1e-9]),
    ("rank", lambda rank: LowRankEditor(rank), [0, -1], [1]),
    ("learning_rate", lambda rate: LowRankEditor(learning_rate=rate), [0.0, -1e-9], [1e-9]),
    ("locality", lambda locality: LowRankEditor(locality=locality), [-1e-9], [0.0]),
    ("replay_size", lambda replay_size: LowRankEditor(replay_size=replay_size), [0], [1]),
    ("num_references", lambda number: LowRankEditor(num_references=number), [0], [1]),
    ("seed", lambda seed: LowRankEditor(seed=seed), [-1, 2**32], [0, 2**32 - 1]),
    ("learning_rate", LowRankEditor().with_learning_rate, [0.0, -1e-9], [1e-9]),
    ("epsilon", lambda epsilon: PreconditionedEditor(PLAIN, epsilon=epsilon), [-1e-9], [0.0]),
    ("num_references", lambda number: PreconditionedEditor(PLAIN, num_references=number), [0], [1]),
    ("num_halvings", lambda number: StrengthSearch(PLAIN, num_halvings=number), [0, -1], [1]),
    ("margin", lambda margin: StrengthSearch(PLAIN, margin), [-1e-9], [0.0]),
    ("learning_rate", PLAIN.with_learning_rate, [0.0, -1e-9], [1e-9]),
]


@pytest.mark.parametrize(("name", "call", "values", "ends"), REFUSED)
def test_the_name_is_said(name: str, call: Callable[..., object], values: list[float], ends: list[float]) -> None:
    assert refused_by_name(name, call, values, ends) == values


def test_a_number_that_an_optimizer_refuses_is_told_when_the_editor_is_made() -> None:
    with pytest.raises(UserError, match=r"the editor's optimizer cannot be made: Invalid learning rate: -1\.0"):
        HigherEditor(partial(torch.optim.SGD, lr=-1.0))


def test_an_editor_without_a_learning_rate_says_so() -> None:
    class Rateless(Editor):
        with_learning_rate = BaseEditor.with_learning_rate

    with pytest.raises(UserError, match="the learning rate of Rateless cannot be set"):
        Rateless(GD(0.1)).with_learning_rate(0.2)
