"""A whole number stays one where a number of either kind is taken: ``--trainer.limit_test_batches 1`` is one batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from jsonargparse import _typehints

__all__ = ["whole_numbers_stay_whole"]


@contextmanager
def whole_numbers_stay_whole() -> Iterator[None]:
    """While this lasts, an option for an int or a float takes ``1`` as the int, whichever its type names first.

    jsonargparse tries the types of a union in their order, and a float takes ``1`` as ``1.0``, which stands for all
    batches in Lightning's limits. The order is not even that of the source: ``typing`` keeps one object for
    ``Union[int, float]`` and ``Union[float, int]``, that of whichever library was imported first. jsonargparse has no
    setting for this, so its function that sorts the types is replaced, for as long as a command line is parsed.
    """
    theirs = _typehints.sort_subtypes_for_union

    @wraps(theirs)
    def ints_first(*args: Any, **settings: Any) -> list[Any]:
        subtypes = list(theirs(*args, **settings))
        if int in subtypes and float in subtypes[: subtypes.index(int)]:
            subtypes.remove(int)
            subtypes.insert(subtypes.index(float), int)
        return subtypes

    _typehints.sort_subtypes_for_union = ints_first
    try:
        yield
    finally:
        _typehints.sort_subtypes_for_union = theirs
