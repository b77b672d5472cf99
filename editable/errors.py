"""What ends a command early: a user's mistake and a signal; and the checks of numbers and words that raise the first.

The command line prints a mistake as a sentence, without a traceback. A check takes options by the name that the user
typed, each a number, a sequence of numbers, or ``None`` for one that is left out, and refuses, whatever the range, what
nobody can mean: NaN, infinity, more than :data:`LARGEST`, a truth value, or text.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, TypeAlias, get_args

__all__ = [
    "LARGEST",
    "LARGEST_SEED",
    "LARGEST_WIDTH",
    "Interrupted",
    "UserError",
    "require_at_least",
    "require_choice",
    "require_finite",
    "require_normalisation",
    "require_not_negative",
    "require_once",
    "require_positive",
    "require_seed",
    "require_side",
    "require_whole",
    "require_width",
    "require_within",
]

LARGEST = 10**12
"""No number is meant that is larger than this, of either sign: 10¹² images, steps, or times the usual."""

LARGEST_SEED = 2**32 - 1
"""What numpy's legacy generator and Lightning take."""

LARGEST_SIDE = 2**14
"""In pixels: a colour image of this height and width takes 3 GiB in single precision."""

LARGEST_WIDTH = 2**16
"""Channels, classes, or entries of a vector: a square layer of this width takes 16 GiB."""

Numbers: TypeAlias = float | Sequence[float] | None


class UserError(ValueError):
    """A mistake in the user's input: a missing path, an unknown layer, a label out of range.

    The message is one sentence that names the offending value and says what would be right. ``train.py`` prints it
    and exits with status 2; code that uses the package as a library catches it as a :class:`ValueError`.
    """


def require_whole(least: int, most: int, /, **values: Numbers) -> None:
    """Raise a :class:`UserError` that names the first value that is no whole number from ``least`` to ``most``."""
    _require(lambda value: isinstance(value, Integral), "a whole number", values)
    _require(lambda value: value >= least, f"at least {least}", values)
    _require(lambda value: value <= most, f"at most {most}", values)


def require_at_least(least: int, /, **values: Numbers) -> None:
    """Raise a :class:`UserError` that names the first value that is no whole number, or below the least one allowed."""
    require_whole(least, LARGEST, **values)


def require_choice(choices: Any, /, **values: Any) -> None:
    """Raise a :class:`UserError` that names the first value that is none of the words of a ``Literal``."""
    for name, value in values.items():
        if value not in get_args(choices):
            raise UserError(f"{name} is {value!r}, but must be one of {', '.join(get_args(choices))}")


def require_once(**values: Sequence[Any]) -> None:
    """Raise a :class:`UserError` that names the first list with something in it twice: nothing is tried again."""
    for name, some in values.items():
        if len(set(some)) < len(some):
            raise UserError(f"{name} has {max(some, key=some.count)} twice: each can be tried once")


def require_seed(**values: Numbers) -> None:
    """Raise a :class:`UserError` that names the first value that is no seed, from 0 to 2³² − 1."""
    require_whole(0, LARGEST_SEED, **values)


def require_side(**values: int | None) -> None:
    """Raise a :class:`UserError` that names the first value that is no height or width in pixels, from 1 to 2¹⁴.

    A list of numbers is none either: values may be what a file has in a number's place.
    """
    for name, value in values.items():
        if value is not None and not isinstance(value, Integral):
            got = f"'{value}'" if isinstance(value, str) else value
            raise UserError(f"{name} must be a whole number, got {got}")
    require_whole(1, LARGEST_SIDE, **values)


def require_width(**values: Numbers) -> None:
    """Raise a :class:`UserError` that names the first value that is no number of channels or classes, 1 to 2¹⁶."""
    require_whole(1, LARGEST_WIDTH, **values)


def require_finite(**values: Numbers) -> None:
    """Raise a :class:`UserError` that names the first value that is no finite number."""
    _require(lambda value: isinstance(value, Real), "a number", values)
    _require(lambda value: value == value and abs(value) != math.inf, "finite", values)
    _require(lambda value: abs(value) <= LARGEST, f"from {-LARGEST:g} to {LARGEST:g}", values)


def require_positive(**values: Numbers) -> None:
    """Raise a :class:`UserError` that names the first value that is no finite number above 0."""
    require_finite(**values)
    _require(lambda value: value > 0, "positive", values)


def require_not_negative(**values: Numbers) -> None:
    """Raise a :class:`UserError` that names the first value that is no finite number from 0."""
    require_finite(**values)
    _require(lambda value: value >= 0, "at least 0", values)


def require_within(interval: str, /, **values: Numbers) -> None:
    """Raise a :class:`UserError` that names the first value outside of an interval.

    Args:
        interval: As it is written, ``[0, 1)``: a square bracket for an end that belongs to it, a round one otherwise.
        values: Numbers by name.
    """
    low, high = map(float, interval[1:-1].split(","))
    open_below, open_above = interval.startswith("("), interval.endswith(")")
    _require(lambda value: isinstance(value, Real), f"a number in {interval}", values)
    _require(lambda value: low < value if open_below else low <= value, f"in {interval}", values)
    _require(lambda value: value < high if open_above else value <= high, f"in {interval}", values)


def require_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise a :class:`UserError` unless they can be mean and standard deviation of pixels on a scale of 0 to 1."""
    if len(mean) != len(std):
        raise UserError(f"mean must be as long as std, which is {list(std)}, got {list(mean)}")
    for name, values, interval in (("mean", mean, "[0, 1]"), ("std", std, "(0, 1]")):
        try:
            require_within(interval, **{name: values})
        except UserError as error:
            raise UserError(
                f"{error}: mean and std are on a scale of 0 to 1, so divide by 255 what is on another"
            ) from None


def _require(is_right: Callable[..., bool], what: str, values: dict[str, Numbers]) -> None:
    for name, value in values.items():
        if value is None:
            continue
        each = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        for one in each:
            if isinstance(one, bool) or not is_right(one):
                got = f"'{one}'" if isinstance(one, str) else one
                raise UserError(f"{name} must be {what}, got {got if one is value else list(each)}")


class Interrupted(BaseException):
    """A signal asks the process to end; no :class:`Exception`, so that nothing that handles mistakes handles it.

    Args:
        signum: Number of the signal.

    Attributes:
        status: The exit status that shells expect, 128 and the number.
        advice: Where the work can be gone on with, as an option of the command line: ``--ckpt_path …``.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
        self.status = 128 + signum
        self.advice = ""
