"""Progress bars of callbacks as they look on a terminal, also where nobody knows how much there is to do."""

from types import SimpleNamespace

import pytest
from rich.console import Console

from editable.callbacks.run.edit_loop import progress_bars


def shown(total: float | None, completed: float) -> str:
    """What a terminal of 100 columns has of one bar."""
    trainer = SimpleNamespace(progress_bar_callback=SimpleNamespace(is_enabled=True), is_global_zero=True)
    progress = progress_bars(trainer)
    progress.add_task("images looked at", total=total, completed=completed)
    console = Console(width=100, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(progress.get_renderable())
    return capture.get()


@pytest.mark.parametrize(("total", "words"), [(40, " 7/40 "), (None, " 7/? "), (0, "7/0")])
def test_a_bar_says_how_much_is_done_of_how_much(total: int | None, words: str) -> None:
    line = shown(total, 7)
    assert "images looked at" in line
    assert words in line


@pytest.mark.parametrize(("enabled", "first"), [(False, True), (True, False)])
def test_bars_show_where_the_trainers_own_do(enabled: bool, first: bool) -> None:
    trainer = SimpleNamespace(progress_bar_callback=SimpleNamespace(is_enabled=enabled), is_global_zero=first)
    assert progress_bars(trainer).disable
