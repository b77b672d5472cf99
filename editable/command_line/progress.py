"""A loop with a progress bar, which ends with the loop, however that ends."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import track

__all__ = ["tracked"]

T = TypeVar("T")


@contextmanager
def tracked(
    items: Iterable[T], description: str, hide: bool = False, console: Console | None = None
) -> Iterator[Iterable[T]]:
    """Yield items that move a progress bar as they are taken; the bar goes when the block ends, at an error, too.

    A bar of :func:`rich.progress.track` that an error has left goes when it is collected; where the thread of another
    bar collects it, each waits for the other for ever.

    Args:
        items: What is gone through.
        description: The words beside the bar.
        hide: Show none.
        console: Where it is shown; by default on the terminal.
    """
    bar = track(items, description, transient=True, disable=hide, console=console)
    try:
        yield bar
    finally:
        bar.close()  # type: ignore[attr-defined]  # it is a generator, and told as an iterable
