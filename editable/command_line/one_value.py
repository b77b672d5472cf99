"""One value where a list is expected is a list of one: ``--evaluation.editable_layers fc``, ``editable_layers: fc``."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, get_args

from jsonargparse import _typehints

__all__ = ["one_value_is_a_list_of_one"]


@contextmanager
def one_value_is_a_list_of_one() -> Iterator[None]:
    """While this lasts, an option for a list takes one of its items, unless it takes that as it is.

    jsonargparse has no setting for this, so what checks a value is replaced, for as long as a command line is parsed.
    """
    option: Any = _typehints.ActionTypeHint
    theirs = option._check_type

    @wraps(theirs)  # jsonargparse looks at the signature for what it may give
    def check(self: Any, value: Any, append: bool = False, **settings: Any) -> Any:
        try:
            return theirs(self, value, append=append, **settings)
        except (TypeError, ValueError):
            if append or not isinstance(value, str | int | float) or not _takes_a_list(self._typehint):
                raise
            with suppress(TypeError, ValueError):
                return theirs(self, [value], append=append, **settings)
            raise  # with what has caused it

    option._check_type = check
    try:
        yield
    finally:
        option._check_type = theirs


def _takes_a_list(typehint: Any) -> bool:
    """Tell whether a list is among what an option takes."""
    origin = _typehints.get_typehint_origin(typehint)
    if origin is _typehints.Union:
        return any(_takes_a_list(part) for part in get_args(typehint))
    return origin in _typehints.sequence_origin_types
