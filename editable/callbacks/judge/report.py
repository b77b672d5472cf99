"""What the four tests leave for their reader: a table, the ROC curves, and some manipulated images."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from editable.atomic import write_csv
from editable.callbacks.judge.judged_set import SetOutcome
from editable.metrics.four_tests import GROUPS, VERSIONS
from editable.tables import markdown_table, terminal_table
from editable.visualize import plot_exemplars
from editable.visualize.four_tests import RocPanel, plot_roc_before_and_after

if TYPE_CHECKING:
    from editable.callbacks.judge.callback import FourTests

__all__ = ["FourTestsReport"]

HEADER = ["set", "test", "images", "accuracy before", "after", "confidence before", "after"]
SHORT_HEADER = ["set", "test", "images", "accuracy", "confidence"]
"""Of the terminal, on which 80 columns are to do."""
TESTS = {
    f"{version}_{group}": f"{version}, {group} {'class' if group == 'same' else 'classes'}"
    for version in VERSIONS
    for group in GROUPS
}
QUANTITIES = ("accuracy_before", "accuracy", "confidence_before", "confidence")


class FourTestsReport:
    """Tables and figures of the four tests.

    Args:
        run: The callback, when everything is judged.
    """

    def __init__(self, run: "FourTests") -> None:
        self.run = run

    def table(self) -> Table:
        """Return the table for the terminal."""
        rows = ([*row[:3], _arrow(row[3:5]), _arrow(row[5:])] for row in self._rows())
        return terminal_table(SHORT_HEADER, rows, title=f"{self._edit()}; target {self._target()}")

    def write(self, folder: Path) -> list[str]:
        """Write all files into a folder; return the report's section in Markdown."""
        run = self.run
        write_csv(folder / "four_tests.csv", self._figures())
        write_csv(folder / "roc_areas.csv", self._areas())
        panels = list(self._panels())
        text = [
            f"## Four tests\n\n{self._describe()}\n\n{markdown_table(HEADER, self._rows())}\n\nAccuracy is the part of "
            "images that get the reference label, confidence the mean probability of that label; — where there is no "
            f"image. Exact figures are in [four_tests.csv](four_tests.csv).\n{self._undefined()}"
        ]
        if panels:
            plot_roc_before_and_after(folder / "four_tests_roc.png", panels)
            text.append(
                "### ROC curves\n\nThe target against all other images of the set, by the probability of the target. "
                "Areas are in [roc_areas.csv](roc_areas.csv).\n\n![ROC curves](four_tests_roc.png)\n"
            )
        if run.examples is not None:
            plot_exemplars(folder / "manipulated.png", *run.examples)
            text.append("### Manipulated images\n\n![Images with the concept replaced](manipulated.png)\n")
        return text

    def _edit(self) -> str:
        return "No edit" if self.run.edited is None else f"The edit {Path(self.run.edited).name}"

    def _target(self) -> str:
        target = self.run.target
        return f"'{target[0]}'" if len(target) == 1 else f"{len(target)} classes"

    def _describe(self) -> str:
        run = self.run
        sizes = {name: outcome.num_images for name, outcome in run.outcomes.items()}
        text = (
            f"{self._edit()}, judged by {run.num_test_images} test images. Target: "
            f"{', '.join(f'`{name}`' for name in run.target)}. `random`: {sizes['random']} images drawn with seed "
            f"{run.seed}; `confusing`: {sizes['confusing']} images, the {100 * run.confusing_share:g} % in which the "
            "concept is seen most, as far as it is found there"
        )
        if run.noise is not None:
            text += (
                f"; `mislabelled`: {sizes['mislabelled']} images, those of the target under the label `{run.noise}`, "
                "and those that have it rightly: same and other classes are those that images truly belong to, "
                "accuracy and confidence those of the given label"
            )
        return f"{text}."

    def _rows(self) -> Iterator[list[str]]:
        """Yield a row for each set and test, and one for all test images."""
        for name, outcome in self.run.outcomes.items():
            for test, title in TESTS.items():
                count, accuracies, confidences = _of_test(outcome, test)
                cells = [*(_percent(value) for value in accuracies), *(_number(value) for value in confidences)]
                yield [name, title, str(count), *cells]
        run = self.run
        overall = [_percent(run.accuracy_before), _percent(run.accuracy), "", ""]
        yield ["all", "normal", str(run.num_test_images), *overall]

    def _figures(self) -> Iterator[list[object]]:
        yield ["set", "test", "num_images", *QUANTITIES]
        for name, outcome in self.run.outcomes.items():
            for test in TESTS:
                count, accuracies, confidences = _of_test(outcome, test)
                yield [name, test, count, *("" if value != value else value for value in (*accuracies, *confidences))]
        yield ["all", "normal", self.run.num_test_images, self.run.accuracy_before, self.run.accuracy, "", ""]

    def _areas(self) -> Iterator[list[object]]:
        yield ["set", "version", "auc_before", "auc"]
        for name, outcome in self.run.outcomes.items():
            for version, curves in outcome.curves.items():
                areas = (curve.auc.item() for curve in curves)
                yield [name, version, *("" if area != area else area for area in areas)]

    def _panels(self) -> Iterator[RocPanel]:
        for name, outcome in self.run.outcomes.items():
            for version, (before, after) in outcome.curves.items():
                if not before.auc.isnan():
                    yield RocPanel(f"{name}, {version}", before, after)

    def _undefined(self) -> str:
        """Say of which images there is no ROC curve, and why."""
        sentences = []
        for name, outcome in self.run.outcomes.items():
            for version, (before, _) in outcome.curves.items():
                if before.auc.isnan():
                    counts = [outcome.figures[f"{version}_{group}_num_images"] for group in GROUPS]
                    sentences.append(
                        f"There is no ROC curve of {version} images of the set `{name}`, which has {counts[0]:.0f} of "
                        f"the target and {counts[1]:.0f} others."
                    )
        return "\n" + " ".join(sentences) + "\n" if sentences else ""


def _of_test(outcome: SetOutcome, test: str) -> tuple[int, list[float], list[float]]:
    figures = [outcome.figures[f"{test}_{quantity}"] for quantity in QUANTITIES]
    return int(outcome.figures[f"{test}_num_images"]), figures[:2], figures[2:]


def _arrow(cells: list[str]) -> str:
    before, after = cells
    return f"{before.removesuffix(' %')} → {after}" if before.strip("—") else before


def _percent(value: float) -> str:
    return "—" if value != value else f"{100 * value:.2f} %"


def _number(value: float) -> str:
    return "—" if value != value else f"{value:.3f}"
