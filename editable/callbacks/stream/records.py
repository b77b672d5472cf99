"""What the patch of a stream tells of each correction that was kept."""

from collections.abc import Sequence
from typing import Any

from editable.callbacks.stream.outcome import StreamOutcome
from editable.callbacks.stream.report import asked_of, record
from editable.callbacks.stream.unfinished import Progress
from editable.editing import EditRecord, Harm, upper_bound
from editable.editing.patches.owners import rows_of

__all__ = ["records"]

LEVEL = 0.95
"""Of the bound of a stream that was given no budget."""


def records(
    outcome: StreamOutcome,
    names: Sequence[str],
    done: Progress,
    made_by: Any,
    config: str | None,
) -> list[EditRecord]:
    """Return a record for each correction that was kept; one for all that were made together.

    Args:
        outcome: Of the stream.
        names: Of all test images.
        done: The stream at its end.
        made_by: The editor and its settings, as JSON holds them.
        config: Configuration file of the run.
    """
    told, sentences = record(outcome), asked_of(outcome)
    kept = outcome.kept.nonzero().flatten().tolist()
    groups = [[number] for number in kept] if outcome.protocol == "stream" else [kept] if kept else []
    made = []
    for group in groups:
        last = group[-1] == kept[-1]
        made.append(
            EditRecord(
                [sentences[number] for number in group],
                made_by,
                told["measured_on"] if last else "",
                told["outcome"] if last else {},
                outcome.classes,
                [names[int(outcome.index[number])] for number in group],
                [int(outcome.new_label[number]) for number in group],
                _harm(outcome, float(done.bounds[group[-1]]), last),
                rows_of(group, done.owners, done.state.params) if outcome.protocol == "stream" else {},
                config,
            )
        )
    return made


def _harm(outcome: StreamOutcome, bound: float, last: bool) -> Harm | None:
    """Return what is known of the harm after a correction and those before it."""
    promised = outcome.certificate
    if promised is not None:
        number = promised.num_counted if last else None
        return Harm(promised.counted, number, promised.num_images, bound, promised.level, promised.budget)
    if not last:
        return None
    broken = round(outcome.points[-1].broken * outcome.num_judged)
    return Harm("broken", broken, outcome.num_judged, upper_bound(broken, outcome.num_judged, LEVEL).item(), LEVEL)
