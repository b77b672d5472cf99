"""Numbers out of their range are refused by their names, and the last ones in it are taken."""

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from editable.errors import UserError

Ends: TypeAlias = tuple[str, Callable[..., object], list[float], list[float]]
"""A number's name, what takes it, values just out of its range, and the last ones in it."""


def refused_by_name(
    name: str, call: Callable[..., object], values: Sequence[float], ends: Sequence[float] = ()
) -> list[float]:
    """Return which values out of the range are refused by the number's name, once those at its ends are taken."""
    for value in ends:
        call(value)
    return [value for value in values if _is_refused(name, call, value)]


def _is_refused(name: str, call: Callable[..., object], value: float) -> bool:
    try:
        call(value)
    except UserError as error:
        return re.search(rf"\b{name} must be", str(error)) is not None
    return False
