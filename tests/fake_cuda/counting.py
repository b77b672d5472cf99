"""What a block of code makes the host wait for, by the line that does it, and how many kernels it starts."""

import collections
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fake_cuda.building import NAME

__all__ = ["Count", "counting", "tell"]


@dataclass
class Count:
    """What has been counted; see :func:`counting`."""

    waits: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    """By operator and place: results that the host had to read before it could go on."""
    pageable: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    """By operator and place: copies to the device from memory that is not pinned, each of which the host waits for."""
    kernels: int = 0

    def at(self, part: str) -> int:
        """Return the number of waits and pageable copies in places whose text has ``part``."""
        both = [*self.waits.items(), *self.pageable.items()]
        return sum(times for (_, place), times in both if part in place)

    def lines(self) -> list[str]:
        """Return a line of text for each kind of wait and place, the most frequent first."""
        rows = [(times, "waits", *key) for key, times in self.waits.items()]
        rows += [(times, "pageable", *key) for key, times in self.pageable.items()]
        return [f"{self.kernels:8d}  kernels"] + [
            f"{times:8d}  {kind:9s} {operator:32s} {place}"
            for times, kind, operator, place in sorted(rows, reverse=True)
        ]


_open: list[tuple[Count, tuple[str, ...], int]] = []


@contextlib.contextmanager
def counting(under: tuple[str, ...] = ("/editable/", "/benchmarks/"), depth: int = 1) -> Iterator[Count]:
    """Count while the block runs.

    Args:
        under: Parts of paths: a place is a line of a file whose path has one of them.
        depth: How many lines, the innermost first, a place has.
    """
    count, module = Count(), sys.modules[NAME]
    begun = module.kernels()
    _open.append((count, under, depth))
    module.listen(tell)
    try:
        yield count
    finally:
        _open.pop()
        if not _open:
            module.listen(None)
        count.kernels = module.kernels() - begun


def tell(kind: str, operator: str) -> None:
    """Note an event (``wait``, ``pageable copy``, ``copy``) for every block that is open."""
    for count, under, depth in _open:
        if kind == "wait":
            count.waits[operator, _place(under, depth)] += 1
        elif kind == "pageable copy":
            count.pageable[operator, _place(under, depth)] += 1


def _place(under: tuple[str, ...], depth: int) -> str:
    found, frame, last = [], sys._getframe(), ""
    while frame is not None and len(found) < depth:  # of a thread of torch's own there may be no other frame
        path, line = frame.f_code.co_filename, f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        last = last if path == __file__ else last or line
        if any(part in path for part in under) and "/site-packages/" not in path:
            found.append(f"{line} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(found) or f"elsewhere, {last}"
