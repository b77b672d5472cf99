"""How many edits or images are computed together: half as many from where a device has no memory for more."""

import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from editable.errors import require_at_least

__all__ = ["Together"]

_T = TypeVar("_T")


class Together:
    """Computes parts of many, each of at most some number, which is halved where the device runs out of memory.

    That is said once, and holds for all that follows. One alone for which there is no memory is an error.

    Args:
        number: How many at once to begin with, at least 1.
        what: Of which kind, for the message: ``edits``.
        option: What sets the number, for the message; none where another number would be another procedure.

    Attributes:
        number: How many are computed at once now.

    Raises:
        UserError: If the number is below 1.

    Example:
        >>> [result for _, result in Together(2, "edits", "edits_at_once").run(lambda part: list(range(5))[part], 5)]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(self, number: int, what: str, option: str | None = None) -> None:
        require_at_least(1, number=number)
        self.number, self.what, self.option = number, what, option
        self._said = False

    def run(self, work: Callable[[slice], _T], count: int) -> Iterator[tuple[slice, _T]]:
        """Return each part of ``count`` in order, with what ``work`` returns for it.

        Args:
            work: Takes a part; it is called again with half of one for which there was no memory.
            count: How many there are; of none, nothing is computed.

        Raises:
            torch.OutOfMemoryError: If there is no memory for one alone.
        """
        start = 0
        while start < count:
            part = slice(start, min(start + self.number, count))
            try:
                result, fits = work(part), True
            except torch.OutOfMemoryError:
                if part.stop - start == 1:
                    raise
                fits = False  # what the error's frames hold is free behind this block
            if fits:
                yield part, result
                start = part.stop
            else:
                self._halve(part.stop - start)

    def _halve(self, tried: int) -> None:
        self.number = tried // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if not self._said:
            begin = f"; {self.option}={self.number} begins with that" if self.option else ""
            warnings.warn(
                f"the device has no memory for {tried} {self.what} at once: from here on at most {self.number} are "
                f"computed together, and half as many whenever that is too much{begin}",
                UserWarning,
                stacklevel=3,
            )
        self._said = True
