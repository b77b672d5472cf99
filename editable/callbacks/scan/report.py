"""What a scan for spurious correlations leaves for its reader: the ranking as a table, and as bars."""

from collections.abc import Iterator, Sequence
from math import isnan
from pathlib import Path

from editable.callbacks.scan.classes import Change, ClassChange
from editable.callbacks.scan.outcome import ScanOutcome
from editable.tables import Table, markdown_text
from editable.visualize.spurious_scan import SHOWN, Bars, plot_scan

__all__ = ["summary", "write"]

MOST_SHOWN = 20
"""Classes in the table and the figure; the file has all."""
RANKED_BY = {
    "error": "the rise in error",
    "top_probability": "the fall in top probability",
    "taken": "the rise of the part of other classes' images that they take",
}
MEASURES = {"error": "error", "top": "top_probability", "true": "true_probability", "taken": "taken"}
"""Names of the measures in files, by the field that has them."""


def summary(outcome: ScanOutcome) -> Table:
    """Return the ranking, one class in a row, as it is printed and stands in the report."""
    header = ["class", "found", "error, %", "top p", "true p", "taken, %"]
    if outcome.edited is not None:
        header += ["edited: error, %", "edited: taken, %"]
    rows = [_row(outcome, label) for label in outcome.order[:MOST_SHOWN]]
    return Table(header, rows, "Classes by the harm that replacing the concept does")


def write(outcome: ScanOutcome, folder: Path) -> list[str]:
    """Write ``scan.csv`` and ``scan.png`` into a folder; return the report's section in Markdown."""
    _all_classes(outcome).write_csv(folder / "scan.csv")
    _plot(outcome, folder / "scan.png")
    return [
        f"## Spurious correlations\n\n{_describe(outcome)}\n\n{summary(outcome).markdown()}\n\nMeans over the "
        "images of the class where the concept was found, before → after its replacement; top p and true p: "
        "probability of the predicted and of the true label; taken: part of those of "
        f"the other classes that are given to this one.{_left_out(outcome)} All classes, with 95 % intervals, are in "
        "[scan.csv](scan.csv).\n\n![Changes by class](scan.png)\n"
    ]


def _describe(outcome: ScanOutcome) -> str:
    order, label = outcome.order, outcome.target
    taken = outcome.network.by_class[label].taken
    place = f"number {order.index(label) + 1} of {len(order)}" if label in order else "not ranked"
    harm = RANKED_BY[outcome.rank_by]
    text = (
        f"The concept was found in {outcome.num_found} of {outcome.num_images} test images, and replaced. Classes are "
        f"ranked by {harm}. '{markdown_text(outcome.classes[label])}' is {place}"
    )
    if not isnan(taken.before):
        text += f", and takes {_percent(taken)} of the other classes' images"
    if outcome.edited is None:
        return f"{text}."
    edited = outcome.edited.by_class[label].taken
    if isnan(edited.before):
        return f"{text}."
    return f"{text}; by the edited network, {_percent(edited)}."


def _left_out(outcome: ScanOutcome) -> str:
    ranked, found = len(outcome.order), sum(some.num_found > 0 for some in outcome.network.by_class)
    text = f" The first {MOST_SHOWN} of {ranked} classes are shown." if ranked > MOST_SHOWN else ""
    if found > ranked:
        text += f" Not ranked: {found - ranked} with fewer than {outcome.min_found} such images."
    return text


def _row(outcome: ScanOutcome, label: int) -> list[str]:
    """Return a class's row of the table for readers."""
    some = outcome.network.by_class[label]
    row = [outcome.classes[label], f"{some.num_found} of {some.num_images}"]
    row += [_percent(some.error), _plain(some.top), _plain(some.true), _percent(some.taken)]
    if outcome.edited is not None:
        edited = outcome.edited.by_class[label]
        row += [_percent(edited.error), _percent(edited.taken)]
    return row


def _all_classes(outcome: ScanOutcome) -> Table:
    """Return the file's table: all classes with all measures, ranked ones first."""
    by_class = {"": outcome.network.by_class}
    if outcome.edited is not None:
        by_class["edited_"] = outcome.edited.by_class
    orders = {
        "rank_by_error": outcome.order_by("error"),
        "rank_by_top_probability": outcome.order_by("top_probability"),
        "rank_by_taken": outcome.order_by("taken"),
    }
    columns = [
        *orders,
        "class",
        "num_images",
        "num_found",
        *(
            f"{prefix}{name}_{what}"
            for prefix in by_class
            for name in MEASURES.values()
            for what in ("before", "after", "change", "half_width")
        ),
    ]
    ranked = outcome.order
    rows: list[Sequence[object]] = []
    for label in [*ranked, *(label for label in range(len(outcome.classes)) if label not in ranked)]:
        some = outcome.network.by_class[label]
        places = [order.index(label) + 1 if label in order else None for order in orders.values()]
        figures = [figure for changes in by_class.values() for figure in _figures(changes[label])]
        rows.append([*places, outcome.classes[label], some.num_images, some.num_found, *figures])
    return Table(columns, rows)


def _figures(some: ClassChange) -> Iterator[str | None]:
    """Yield a class's figures as they stand in the file; what is undefined is left empty."""
    for field in MEASURES:
        change: Change = getattr(some, field)
        for value in (change.before, change.after, change.change, change.half_width):
            yield None if isnan(value) else f"{value:.6g}"


def _plot(outcome: ScanOutcome, path: Path) -> None:
    shown = outcome.order[:MOST_SHOWN]
    networks = {"network": outcome.network.by_class}
    if outcome.edited is not None:
        networks["edited"] = outcome.edited.by_class

    def changes(field: str) -> dict[str, list[tuple[float, float]]]:
        of = {name: [getattr(by_class[label], field) for label in shown] for name, by_class in networks.items()}
        return {name: [(some.change, some.half_width) for some in row] for name, row in of.items()}

    panels = [Bars.of(measure, changes(field)) for field, measure in MEASURES.items() if measure in SHOWN]
    plot_scan(path, [outcome.classes[label] for label in shown], panels)


def _percent(some: Change) -> str:
    return "—" if isnan(some.before) else f"{100 * some.before:.2f} → {100 * some.after:.2f}"


def _plain(some: Change) -> str:
    return "—" if isnan(some.before) else f"{some.before:.3f} → {some.after:.3f}"
