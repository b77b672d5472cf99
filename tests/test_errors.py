"""The checks of numbers: what nobody can mean is refused whatever the range, by the option's name, with the value."""

import math
import re
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest

from editable.errors import (
    UserError,
    require_at_least,
    require_choice,
    require_finite,
    require_not_negative,
    require_once,
    require_positive,
    require_seed,
    require_side,
    require_within,
)

CHECKS: list[Callable[..., None]] = [
    lambda **values: require_at_least(1, **values),
    require_seed,
    require_side,
    require_finite,
    require_positive,
    require_not_negative,
    lambda **values: require_within("[0, 1)", **values),
]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), 1e30, -1e30, 10**30, True])
@pytest.mark.parametrize("check", CHECKS)
def test_what_nobody_can_mean_is_refused(check: Callable[..., None], value: object):
    with pytest.raises(UserError, match=rf"^option must be .*, got {re.escape(str(value))}$"):
        check(option=value)
    with pytest.raises(UserError, match=r"^option must be .*, got "):
        check(fine=None, option=[value])
    with pytest.raises(UserError, match=r"^option must be .*, got "):
        check(option=[None])


@pytest.mark.parametrize("check", CHECKS)
def test_what_is_left_out_is_right(check: Callable[..., None]):
    assert check(option=None) is None  # nothing is refused
    if check is not require_side:
        assert check(option=None, other=[]) is None


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (CHECKS[0], [1, 2, np.int64(5), 10**12], [0, -1, 1.5, 1.0, 10**12 + 1]),
        (require_seed, [0, 2**32 - 1], [-1, 2**32, 0.5]),
        (require_side, [1, 224, 2**14], [0, 2**14 + 1, 224.5, "224"]),
        (require_finite, [-1e12, 0, 0.5, np.float64(3), 1e12], [-1.1e12, 1.1e12]),
        (require_positive, [1e-300, 1], [0, -1e-300]),
        (require_not_negative, [0, 1e-300], [-1e-300]),
        (lambda **values: require_within("[0, 1)", **values), [0, 0.5], [-1e-9, 1]),
        (lambda **values: require_within("(0, 1]", **values), [1e-300, 1], [0, 1.001]),
    ],
)
def test_ends_of_ranges(check: Callable[..., None], right: list[float], wrong: list[float]):
    if check is not require_side:
        check(option=right)
    for value in right:
        check(option=value)
    for value in wrong:
        with pytest.raises(UserError, match="option must be"):
            check(option=value)


@pytest.mark.parametrize("value", [[], [224], (1, 1)])
def test_a_list_is_no_side(value: object):
    """Files may have one where a number belongs."""
    with pytest.raises(UserError, match=rf"^option must be a whole number, got {re.escape(str(value))}$"):
        require_side(option=value)


def test_nothing_is_tried_twice():
    require_once(layers=["a", "b"], ranks=[1, 2], nothing=[])
    with pytest.raises(UserError, match=r"^ranks has 2 twice: each can be tried once$"):
        require_once(layers=["a"], ranks=[1, 2, 3, 2.0])


def test_a_word_is_one_of_those_there_are():
    require_choice(Literal["images", "features"], route="images", other="features")
    for wrong in ("image", "", None, 1):
        with pytest.raises(UserError, match=rf"^route is {wrong!r}, but must be one of images, features$"):
            require_choice(Literal["images", "features"], route=wrong)
