"""What a scan for spurious correlations leaves for its reader: the ranking as a table, and as bars."""

from collections.abc import Iterator, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from editable.atomic import write_csv
from editable.callbacks.scan.classes import Change, ranking
from editable.tables import markdown_table, terminal_table
from editable.visualize.spurious_scan import Bars, plot_scan

if TYPE_CHECKING:
    from editable.callbacks.scan.callback import SpuriousScan

__all__ = ["SpuriousScanReport"]

MOST_SHOWN = 20
"""Classes in the table and the figure; the file has all."""
MEASURES = {"error": "error", "top": "top_probability", "true": "true_probability", "taken": "taken"}
"""Names of the measures in files, by the field that has them."""


class SpuriousScanReport:
    """Tables and the figure of a scan.

    Args:
        run: The callback, when all images are looked at.
        classes: Names of all classes.
    """

    def __init__(self, run: "SpuriousScan", classes: list[str]) -> None:
        self.run, self.classes = run, classes

    def table(self) -> Table:
        """Return the ranking as a table for the terminal."""
        header, *rows = self._rows()
        return terminal_table(header, rows, title="Classes by the harm that replacing the concept does")

    def write(self, folder: Path) -> list[str]:
        """Write the table and the figure into a folder; return the report's section in Markdown."""
        write_csv(folder / "scan.csv", self._lines())
        self._plot(folder)
        header, *rows = self._rows()
        return [
            f"## Spurious correlations\n\n{self._describe()}\n\n{markdown_table(header, rows)}\n\nMeans over the "
            "images of the class where the concept was found, before → after its replacement; top p and true p: "
            "probability of the predicted and of the true label; taken: part of those of "
            f"the other classes that are given to this one.{self._left_out()} All classes, with 95 % intervals, are in "
            "[scan.csv](scan.csv).\n\n![Changes by class](scan.png)\n"
        ]

    def _describe(self) -> str:
        run = self.run
        num_images = sum(some.num_images for some in run.changes)
        num_found = sum(some.num_found for some in run.changes)
        label = run.target_label(self.classes)
        target = run.changes[label]
        place = f"number {run.order.index(label) + 1} of {len(run.order)}" if label in run.order else "not ranked"
        harm = "the rise in error" if run.rank_by == "error" else "the fall in top probability"
        text = (
            f"The concept was found in {num_found} of {num_images} test images, and replaced. Classes are ranked by "
            f"{harm}. '{self.classes[label]}' is {place}"
        )
        if not isnan(target.taken.before):
            text += f", and takes {_percent(target.taken)} of the other classes' images"
        if run.edited_changes is None:
            return f"{text}."
        edited = run.edited_changes[label].taken
        if isnan(edited.before):
            return f"{text}."
        return f"{text}; by the edited network, {_percent(edited)}."

    def _left_out(self) -> str:
        ranked, found = len(self.run.order), sum(some.num_found > 0 for some in self.run.changes)
        text = f" The first {MOST_SHOWN} of {ranked} classes are shown." if ranked > MOST_SHOWN else ""
        if found > ranked:
            text += f" Not ranked: {found - ranked} with fewer than {self.run.min_found} such images."
        return text

    def _rows(self) -> Iterator[list[str]]:
        """Yield the head of the table for readers, and a row for each class that is shown."""
        edited = self.run.edited_changes
        header = ["class", "found", "error, %", "top p", "true p", "taken, %"]
        yield header if edited is None else [*header, "edited: error, %", "edited: taken, %"]
        for label in self.run.order[:MOST_SHOWN]:
            some = self.run.changes[label]
            row = [self.classes[label], f"{some.num_found} of {some.num_images}"]
            row += [_percent(some.error), _plain(some.top), _plain(some.true), _percent(some.taken)]
            yield row if edited is None else [*row, _percent(edited[label].error), _percent(edited[label].taken)]

    def _lines(self) -> Iterator[Sequence[object]]:
        """Yield the lines of the file: all classes, ranked ones first."""
        run = self.run
        networks = {"": run.changes} | ({} if run.edited_changes is None else {"edited_": run.edited_changes})
        ranks = {by: ranking(run.changes, by, run.min_found) for by in ("error", "top_probability")}
        yield [
            *(f"rank_by_{by}" for by in ranks),
            "class",
            "num_images",
            "num_found",
            *(
                f"{prefix}{name}_{what}"
                for prefix in networks
                for name in MEASURES.values()
                for what in ("before", "after", "change", "half_width")
            ),
        ]
        others = [some.label for some in run.changes if some.label not in run.order]
        for label in [*run.order, *others]:
            some = run.changes[label]
            places = [order.index(label) + 1 if label in order else "" for order in ranks.values()]
            figures = (
                "" if isnan(value) else f"{value:.6g}"
                for changes in networks.values()
                for field in MEASURES
                for value in _four(getattr(changes[label], field))
            )
            yield [*places, self.classes[label], some.num_images, some.num_found, *figures]

    def _plot(self, folder: Path) -> None:
        run, shown = self.run, self.run.order[:MOST_SHOWN]
        networks = {"network": run.changes} | ({} if run.edited_changes is None else {"edited": run.edited_changes})

        def bars(field: str, title: str, scale: float) -> Bars:
            of = {name: [getattr(changes[label], field) for label in shown] for name, changes in networks.items()}
            values = {name: [scale * some.change for some in row] for name, row in of.items()}
            return Bars(title, values, {name: [scale * some.half_width for some in row] for name, row in of.items()})

        panels = [
            bars("error", "change in error, points", 100),
            bars("top", "change in top probability", 1),
            bars("taken", "change in others' images\ntaken, points", 100),
        ]
        plot_scan(folder / "scan.png", [self.classes[label] for label in shown], panels)


def _four(some: Change) -> tuple[float, float, float, float]:
    return some.before, some.after, some.change, some.half_width


def _percent(some: Change) -> str:
    return "—" if isnan(some.before) else f"{100 * some.before:.2f} → {100 * some.after:.2f}"


def _plain(some: Change) -> str:
    return "—" if isnan(some.before) else f"{some.before:.3f} → {some.after:.3f}"
