"""A warning is said once, however often its cause comes up in one command or call."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["each_sentence_once"]


@contextmanager
def each_sentence_once() -> Iterator[None]:
    """Show a warning once in a command or a call, wherever it comes from; as a context or a decorator.

    Python itself shows it again as soon as anybody, such as an imported package, has touched the filters in between.
    """
    show, said = warnings.showwarning, set()

    def once(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if str(message) not in said:
            said.add(str(message))
            show(message, category, filename, lineno, file, line)

    warnings.showwarning = once
    try:
        yield
    finally:
        if warnings.showwarning is once:
            warnings.showwarning = show
