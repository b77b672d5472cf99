"""Results that were not measured."""

from typing import Any

from editable.board.result import Candidate, Figures, Result


def figures(success: float, harm: float) -> Figures:
    return Figures(success, harm, None, 0.1, None, None, None, None, 5)


def metrics(success: float, harm: float) -> dict[str, float]:
    return {
        "stream_error_before": 0.125,
        "stream_error": 0.125 + harm,
        "stream_retention": success,
        "stream_broken": 0.0625,
        "stream_group_generality": 0.375,
        "stream_seconds_per_edit": 0.0125,
        "stream_num_edits": 40,
    }


def result(
    editor: str,
    success: float,
    harm: float,
    searched: list[tuple[float, float | None, float | None]] | None = None,
    protocol: str = "stream",
    **changes: Any,
) -> Result:
    """A result of a stream on digits; searched are learning rates with success and harm, or none of what failed."""
    tried = [
        Candidate({"rule.learning_rate": rate}, None, 0.0, "it ended")
        if held is None or cost is None
        else Candidate({"rule.learning_rate": rate}, metrics(held, cost), 2.0)
        for rate, held, cost in searched or []
    ]
    at = {
        "processor": "some",
        "capability": "AVX2",
        "threads": 2,
        "accelerator": None,
        "torch": "2.8",
        "lightning": "3",
    }
    fields = {
        "titles": ("digits", "one by one", editor.upper()),
        "command": "stream",
        "metrics": metrics(success, harm),
        "points": [{"num_edits": 1.0, "error": 0.125, "group_generality": None}],
        "seconds": 12.25,
        "constants": tried[0].constants if tried else {},
        "searched": tried,
        "config": {},
        "asked": {},
        "surroundings": at | {"commit": "0123456789abcdef+"},
    }
    return Result("digits", protocol, editor, **(fields | changes))
