"""A plateau is found where two windows of losses have about the same mean, and nowhere else."""

import random

import pytest

from editable.errors import UserError
from editable.rewriting.solvers.plateau import Plateau


def first_plateau(losses: list[float], patience: int, tolerance: float) -> int | None:
    """The number of losses after which windows compared by hand, from the whole history, have the same mean."""
    for number in range(2 * patience, len(losses) + 1):
        later = losses[number - patience : number]
        earlier = losses[number - 2 * patience : number - patience]
        if sum(later) / patience >= (1 - tolerance) * sum(earlier) / patience:
            return number
    return None


def found(losses: list[float], patience: int, tolerance: float) -> int | None:
    plateau = Plateau(patience, tolerance)
    return next((number for number, loss in enumerate(losses, 1) if plateau.update(loss)), None)


@pytest.mark.parametrize("patience", [1, 2, 7])
@pytest.mark.parametrize("tolerance", [0.0, 0.01, 0.3])
def test_equals_windows_compared_by_hand(patience: int, tolerance: float):
    generator = random.Random(0)
    for rate in (0.5, 0.9, 0.99):
        losses = [rate**step + 0.05 * generator.random() for step in range(60)]
        assert found(losses, patience, tolerance) == first_plateau(losses, patience, tolerance)


def test_a_constant_loss_is_a_plateau_as_soon_as_two_windows_are_full():
    assert found([3.0] * 20, patience=4, tolerance=0.0) == 8
    assert found([0.0] * 20, patience=4, tolerance=0.1) == 8


def test_a_steady_fall_is_none_however_slow_if_it_is_above_the_tolerance():
    losses = [0.99**step for step in range(2000)]  # falls by 1 − 0.99⁵⁰ = 39.5 % over 50 steps
    assert found(losses, patience=50, tolerance=0.39) is None
    assert found(losses, patience=50, tolerance=0.40) == 100


def test_a_loss_that_jumps_about_its_minimum_is_at_rest():
    jumping = [1.0 + 0.5 * (-1) ** step for step in range(100)]
    assert found(jumping, patience=10, tolerance=0.01) == 20


def test_a_rising_loss_is_at_rest():
    assert found([float(step) for step in range(1, 20)], patience=2, tolerance=0.0) == 4


def test_reset_forgets():
    plateau = Plateau(2, 0.0)
    assert [plateau.update(1.0) for _ in range(4)] == [False, False, False, True]
    plateau.reset()
    assert [plateau.update(1.0) for _ in range(4)] == [False, False, False, True]


def test_numbers_out_of_range():
    with pytest.raises(UserError, match="patience must be at least 1, got 0"):
        Plateau(0, 0.1)
    for tolerance in (-0.1, 1.0, float("nan")):
        with pytest.raises(UserError, match=r"tolerance must be in \[0, 1\)"):
            Plateau(5, tolerance)
