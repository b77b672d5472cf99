"""What is told of a stream: a line for each moment, one for each correction, sentences, and figures."""

from pathlib import Path
from typing import Any

from editable.callbacks.stream.outcome import Certificate, StreamOutcome, StreamPoint
from editable.data.modules.changed_views import CHANGES
from editable.tables import Table
from editable.visualize import plot_stream

__all__ = ["PATCH", "WEIGHTS", "asked_of", "corrections", "describe", "points", "record", "summary", "write"]

WEIGHTS, PATCH = "corrected.safetensors", "corrections.safetensors"
POINTS, CORRECTIONS, FIGURE = "stream.csv", "corrections.csv", "stream.png"


def summary(outcome: StreamOutcome) -> Table:
    """Return a table with a row for each moment that was looked at, to be read."""
    columns = ["edits", "hold", "error", "broken", "mended", "views hold", "same kind", "ms each"]
    rows = [
        [
            point.num_edits,
            _percent(point.retention),
            _percent(point.error, 2),
            _percent(point.broken, 2),
            _percent(point.mended, 2),
            _percent(point.generality),
            _percent(point.group_generality),
            f"{1000 * point.seconds / point.num_edits:.1f}",
        ]
        for point in outcome.points
    ]
    before = ["0", "", _percent(outcome.error_before, 2), "", "", _percent(outcome.generality_before), "", ""]
    return Table(columns, [before, *rows], f"Corrections by {outcome.editor}")


def points(outcome: StreamOutcome) -> Table:
    """Return a table with a row for each moment, of exact values."""
    names = [name for name in StreamPoint._fields if name != "changes"]
    columns = [*names, *(f"generality_{name}" for name in CHANGES)]
    rows = [[*(getattr(point, name) for name in names), *point.changes] for point in outcome.points]
    return Table(columns, [[int(cell) if isinstance(cell, bool) else cell for cell in row] for row in rows])


def corrections(outcome: StreamOutcome) -> Table:
    """Return a table with a row for each correction, of exact values."""
    columns = {
        "index": outcome.index,
        "old_label": outcome.old_label,
        "new_label": outcome.new_label,
        "kept": outcome.kept.int(),
        "success": outcome.success.int(),
        "holds": outcome.held.int(),
        "generality": outcome.views_held,
        "seconds": outcome.seconds,
    }
    return Table(list(columns), list(zip(*(column.tolist() for column in columns.values()), strict=True)))


def write(outcome: StreamOutcome, folder: Path) -> list[str]:
    """Write tables and figure; return the report's section in Markdown."""
    points(outcome).write_csv(folder / POINTS)
    corrections(outcome).write_csv(folder / CORRECTIONS)
    plot_stream(
        folder / FIGURE,
        [point.num_edits for point in outcome.points],
        {
            "corrected images": [point.retention for point in outcome.points],
            "other views of them": [point.generality for point in outcome.points],
            "changed in other ways": [_mean(point.changes) for point in outcome.points],
            "other mistakes of the same kind": [point.group_generality for point in outcome.points],
        },
        {
            "error, change": [point.error - outcome.error_before for point in outcome.points],
            "broken": [point.broken for point in outcome.points],
            "mended": [point.mended for point in outcome.points],
        },
    )
    return [
        f"## Corrections\n\n{' '.join(describe(outcome))}\n\n{summary(outcome).markdown()}\n\n"
        f"Every moment has its line in [{POINTS}]({POINTS}), every correction in [{CORRECTIONS}]({CORRECTIONS}); the "
        f"corrected network's weights are [{WEIGHTS}]({WEIGHTS}){_patch(outcome)}.\n\n"
        f"![What holds and what it costs over the number of corrections]({FIGURE})\n"
    ]


def record(outcome: StreamOutcome) -> dict[str, Any]:
    """Return what the weights' file tells of itself, as JSON holds it."""
    asked = [sentence for sentence, kept in zip(asked_of(outcome), outcome.kept.tolist(), strict=True) if kept]
    return {
        "protocol": outcome.protocol,
        "asked": asked,
        "measured_on": f"{outcome.num_judged} test images that are neither corrected nor chose anything",
        "outcome": {name: value for name, value in outcome.values().items() if not name.startswith("seconds")},
        "promised": outcome.certificate and outcome.certificate._asdict(),
        "classes": outcome.classes,
    }


def asked_of(outcome: StreamOutcome) -> list[str]:
    """Return what was asked for, a sentence for each correction."""
    names = outcome.classes
    return [
        f"test image {index}: {names[old] if names else old} → {names[new] if names else new}"
        for index, old, new in zip(
            *(some.tolist() for some in (outcome.index, outcome.old_label, outcome.new_label)), strict=True
        )
    ]


def describe(outcome: StreamOutcome) -> list[str]:
    """Return sentences about what was corrected, what holds, and what it cost."""
    last, number = outcome.points[-1], len(outcome.index)
    how = "each on top of the last" if outcome.protocol == "stream" else "together, from the unedited network"
    with_views = f", each with {outcome.num_edited_views} views of its image" if outcome.num_edited_views else ""
    sentences = [
        f"{number} corrections by {outcome.editor}{with_views}, {how}; {int(outcome.success.sum())} succeeded, and "
        f"{int(outcome.held.sum())} hold at the end.",
        f"Of {outcome.num_judged} images that are neither corrected nor chose anything, "
        f"{_percent(outcome.error_before, 2)} were mistaken before and {_percent(last.error, 2)} are now: "
        f"{_percent(last.broken, 2)} are broken, {_percent(last.mended, 2)} mended.",
    ]
    if outcome.num_copies:
        left_out = "1 further image judges" if outcome.num_copies == 1 else f"{outcome.num_copies} further images judge"
        sentences.append(f"{left_out} nothing: the same picture is corrected, or chooses, under another name.")
    if last.generality == last.generality:
        sentences.append(
            f"Of {outcome.num_views} further views of each corrected image ({outcome.augmentation}), "
            f"{_percent(outcome.generality_before)} had the asked label before, {_percent(last.generality)} have now."
        )
    if last.changes:
        each = ", ".join(f"{name} {_percent(share)}" for name, share in zip(CHANGES, last.changes, strict=True))
        sentences.append(f"Changed in ways that were no part of a correction, they have it too: {each}.")
    if last.group_size:
        sentences.append(
            f"{last.group_size} judged images were mistaken in the same way as a corrected one; "
            f"{_percent(last.group_generality)} of them are right now."
        )
    if outcome.certificate is not None:
        sentences.append(_promise(outcome.certificate))
    return sentences


def _patch(outcome: StreamOutcome) -> str:
    if not outcome.kept.any():
        return ""
    return f", and what was changed for it is the patch [{PATCH}]({PATCH}), for `--patches` of other commands"


def _promise(promised: Certificate) -> str:
    """Return the sentence about the budget."""
    of_what = "break" if promised.counted == "broken" else "change the prediction of"
    refused = f"; {promised.num_refused} corrections were not kept" if promised.num_refused else ""
    return (
        f"The corrections that were kept {of_what} at most {_percent(promised.bound, 2)} of images like these, at a "
        f"confidence of {_percent(promised.level, 0)} (the budget is {_percent(promised.budget, 2)}; "
        f"{promised.num_counted} of {promised.num_images} images that were looked at for this alone){refused}."
    )


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %" if share == share else "–"


def _mean(shares: list[float]) -> float:
    return sum(shares) / len(shares) if shares else float("nan")
