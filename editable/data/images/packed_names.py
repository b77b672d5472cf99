"""Names of many files in one buffer: a million of them take 60 MB, and no worker process a copy."""

import operator
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

__all__ = ["PackedNames"]


class PackedNames(Sequence[str]):
    """A sequence of names that is one object for Python, whatever their number.

    A list has an object for each name, whose count of references is written to whenever it is looked at: memory that
    forked workers share with the process that they work for becomes each one's own, a hundred bytes a name.

    Args:
        names: The names.

    Example:
        >>> names = PackedNames(["cat/1.jpg", "dog/2.jpg"])
        >>> names[1], names.below("/data")[0], len(names)
        ('dog/2.jpg', '/data/cat/1.jpg', 2)
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        text, ends = bytearray(), array("q", [0])
        for name in names:
            text += name.encode("utf-8", "surrogateescape")  # file names need be no text
            ends.append(len(text))
        self._text, self._ends, self._folder = bytes(text), ends, ""

    def below(self, folder: str | Path) -> "PackedNames":
        """Return the same names as paths in a folder; they share the buffer."""
        paths = PackedNames()
        paths._text, paths._ends, paths._folder = self._text, self._ends, str(Path(folder) / "_")[:-1]
        return paths

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = operator.index(index)
        position += len(self) if position < 0 else 0
        if not 0 <= position < len(self):
            raise IndexError(f"there are {len(self)} names, got {index}")
        name = self._text[self._ends[position] : self._ends[position + 1]]
        return self._folder + name.decode("utf-8", "surrogateescape")
