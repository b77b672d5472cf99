"""Bars go with their loops."""

import io
import threading
import time

from rich.console import Console

from editable.command_line.progress import tracked


def test_all_items_are_taken_in_order():
    with tracked(range(5), "five", console=Console(file=io.StringIO())) as items:
        assert list(items) == [0, 1, 2, 3, 4]


def test_an_error_leaves_no_thread_of_a_bar_behind():
    """Although the error, whose traceback has the loop, is still there."""
    before, errors = threading.active_count(), []
    try:
        with tracked([1, 0, 2], "shares", console=Console(file=io.StringIO(), force_terminal=True)) as items:
            for item in items:
                assert threading.active_count() > before
                1 // item
    except ZeroDivisionError as error:
        errors.append(error)
    assert len(errors) == 1
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:  # a thread that was told to end does so
        time.sleep(0.01)
    assert threading.active_count() == before
