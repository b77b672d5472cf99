"""Learning rates: the grid, the choice among its outcomes, and editors with another rate."""

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn

from editable.editing import (
    GD,
    Adam,
    AdaptiveRProp,
    BaseEditor,
    Editor,
    HigherEditor,
    Momentum,
    RateOutcome,
    RMSProp,
    RProp,
    ScaledGD,
    choose_learning_rate,
    learning_rate_grid,
)
from editable.errors import UserError

SAMPLE, TARGET = torch.tensor([[0.5, -1.0, 2.0, 0.3]]), torch.tensor([2])


@pytest.mark.parametrize(
    ("lowest", "highest", "per_decade", "number"),
    [(1e-6, 1e-2, 3, 13), (1e-5, 1e-4, 1, 2), (1e-4, 1e-1, 4, 13), (3e-5, 2e-3, 5, 11), (1e-3, 1.5e-3, 2, 2)],
)
def test_grid_is_even_in_the_logarithm(lowest: float, highest: float, per_decade: int, number: int) -> None:
    rates = learning_rate_grid(lowest, highest, per_decade)
    assert len(rates) == number
    assert (rates[0], rates[-1]) == (lowest, highest)
    step = math.log(highest / lowest) / (number - 1)
    assert step <= math.log(10) / per_decade + 1e-9
    for i, rate in enumerate(rates):
        assert rate == pytest.approx(lowest * math.exp(i * step), rel=0.05)  # half of the second digit
        assert i in (0, number - 1) or rate == float(f"{rate:.1e}")


def test_grid_in_numbers_that_people_write() -> None:
    assert learning_rate_grid(1e-4, 1e-2, 3) == [1e-4, 2.2e-4, 4.6e-4, 1e-3, 2.2e-3, 4.6e-3, 1e-2]


def test_a_fine_grid_gets_the_digits_that_keep_its_rates_apart() -> None:
    rates = learning_rate_grid(1e-3, 2e-3, 100)
    assert len(rates) == 32
    assert rates == sorted(set(rates))


def test_a_grid_of_one_rate() -> None:
    assert learning_rate_grid(3e-5, 3e-5, 4) == [3e-5]


@pytest.mark.parametrize("arguments", [(0.0, 1.0, 3), (-1.0, 1.0, 3), (1e-2, 1e-3, 3), (1.0, math.inf, 1)])
def test_a_grid_without_sense_is_a_user_error(arguments: tuple[float, float, int]) -> None:
    with pytest.raises(UserError, match=r"^(lowest|highest) must be "):
        learning_rate_grid(*arguments)


def test_no_rate_in_a_decade_is_a_user_error() -> None:
    with pytest.raises(UserError, match="per_decade must be at least 1, got 0"):
        learning_rate_grid(1e-3, 1e-2, 0)


@pytest.mark.parametrize(("min_success", "chosen"), [(0.0, 1e-4), (0.5, 1e-3), (0.9, 1e-2), (0.96, 1e-1), (1.0, None)])
def test_choice_is_the_least_drawdown_among_rates_with_enough_successes(
    min_success: float, chosen: float | None
) -> None:
    outcomes = [
        RateOutcome(1e-4, 0.1, 9.0, 0.001),
        RateOutcome(1e-3, 0.5, 7.0, 0.01),
        RateOutcome(1e-2, 0.95, 3.0, 0.02),
        RateOutcome(3e-2, 0.9, 3.0, 0.02),
        RateOutcome(1e-1, 0.99, 2.0, 0.5),
    ]
    for order in (outcomes, outcomes[::-1]):
        best = choose_learning_rate(order, min_success)
        assert (best and best.learning_rate) == chosen


EDITORS = {
    "GD": (Editor(GD(0.1)), Editor(GD(0.7))),
    "ScaledGD": (Editor(ScaledGD(0.1, epsilon=1e-3)), Editor(ScaledGD(0.7, epsilon=1e-3))),
    "Momentum": (Editor(Momentum(0.1, 0.8), margin=0.5), Editor(Momentum(0.7, 0.8), margin=0.5)),
    "RMSProp": (Editor(RMSProp(0.1, 0.3), max_steps=4), Editor(RMSProp(0.7, 0.3), max_steps=4)),
    "RProp": (Editor(RProp(0.1)), Editor(RProp(0.7))),
    "AdaptiveRProp": (Editor(AdaptiveRProp(0.1)), Editor(AdaptiveRProp(0.7))),
    "Adam": (Editor(Adam(0.1, 0.5)), Editor(Adam(0.7, 0.5))),
    "learnt": (Editor(GD(0.1, learn_learning_rate=True)), Editor(GD(0.7))),
    "SGD of torch": (
        HigherEditor(partial(torch.optim.SGD, lr=0.1, momentum=0.9), 3),
        HigherEditor(partial(torch.optim.SGD, lr=0.7, momentum=0.9), 3),
    ),
    "Adam of torch": (HigherEditor(torch.optim.Adam), HigherEditor(partial(torch.optim.Adam, lr=0.7))),
}


def edit(editor: BaseEditor) -> torch.Tensor:
    """Edit a fixed linear classifier and return its weights."""
    params = {"weight": torch.linspace(-1, 1, 12).view(3, 4), "bias": torch.tensor([2.0, 0.0, -2.0])}
    network = nn.Linear(4, 3)

    def forward(inputs, params):
        return torch.func.functional_call(network, params, inputs)

    return editor(forward, params, SAMPLE, TARGET).params["weight"].detach()


@pytest.mark.parametrize(("editor", "expected"), EDITORS.values(), ids=EDITORS.keys())
def test_an_editor_with_another_rate_edits_as_if_made_with_it(editor: BaseEditor, expected: BaseEditor) -> None:
    before = copy.deepcopy(editor.state_dict()), edit(editor)
    changed = editor.with_learning_rate(0.7)
    assert torch.equal(edit(changed), edit(expected))
    assert not torch.equal(edit(changed), before[1])
    assert not list(changed.parameters())  # nothing is left to learn
    assert torch.equal(edit(editor), before[1])
    assert editor.state_dict() == before[0]


@pytest.mark.parametrize("editor", [Editor(GD(0.1)), HigherEditor(torch.optim.Adam)])
def test_a_rate_that_is_not_positive_is_a_user_error(editor: BaseEditor) -> None:
    with pytest.raises(UserError, match="must be positive, got 0"):
        editor.with_learning_rate(0.0)


def test_an_editor_without_a_known_rate_is_a_user_error() -> None:
    class Unknown(BaseEditor):
        def forward(self, *arguments, **options):
            raise NotImplementedError

    with pytest.raises(UserError, match="the learning rate of Unknown cannot be set: use Editor"):
        Unknown().with_learning_rate(0.1)
