"""Numbers out of their range are refused by their names, and the last ones in it are taken."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import pytest

from editable.errors import UserError

Ends: TypeAlias = tuple[str, Callable[..., object], list[float], list[float]]
"""A number's name, what takes it, values just out of its range, and the last ones in it."""


def refuses_by_name(name: str, call: Callable[..., object], values: Sequence[float], ends: Sequence[float]) -> None:
    """Try values out of the range, and those at its ends."""
    for value in values:
        with pytest.raises(UserError, match=rf"\b{name} must be"):
            call(value)
    for value in ends:
        call(value)
