"""What the four tests leave for their reader: a table, the ROC curves, and some manipulated images."""

from collections.abc import Iterator
from pathlib import Path

from editable.callbacks.judge.outcome import FourTestsOutcome, SetOutcome
from editable.metrics.four_tests import GROUPS, VERSIONS
from editable.tables import Table, markdown_code, markdown_text
from editable.visualize import plot_contact_sheet
from editable.visualize.four_tests import RocPanel, plot_roc_before_and_after

__all__ = ["summary", "write"]

HEADER = ["set", "test", "images", "accuracy before", "after", "confidence before", "after"]
SHORT_HEADER = ["set", "test", "images", "accuracy", "confidence"]
"""Of the terminal, on which 80 columns are to do."""
TESTS = {
    f"{version}_{group}": f"{version}, {group} {'class' if group == 'same' else 'classes'}"
    for version in VERSIONS
    for group in GROUPS
}
QUANTITIES = ("accuracy_before", "accuracy", "confidence_before", "confidence")


def summary(outcome: FourTestsOutcome) -> Table:
    """Return the table for the terminal."""
    target = f"'{outcome.target[0]}'" if len(outcome.target) == 1 else f"{len(outcome.target)} classes"
    rows = [[*row[:3], _arrow(row[3:5]), _arrow(row[5:])] for row in _rows(outcome)]
    return Table(SHORT_HEADER, rows, title=f"{_edit(outcome)}; target {target}")


def write(outcome: FourTestsOutcome, folder: Path) -> list[str]:
    """Write ``four_tests.csv``, ``roc_areas.csv`` and figures into a folder; return the report's sections."""
    _figures(outcome).write_csv(folder / "four_tests.csv")
    _areas(outcome).write_csv(folder / "roc_areas.csv")
    text = [
        f"## Four tests\n\n{_describe(outcome)}\n\n{Table(HEADER, list(_rows(outcome))).markdown()}\n\nAccuracy is the "
        "part of images that get the reference label, confidence the mean probability of that label; — where there is "
        f"no image. Exact figures are in [four_tests.csv](four_tests.csv).\n{_undefined(outcome)}"
    ]
    panels = list(_panels(outcome))
    if panels:
        plot_roc_before_and_after(folder / "four_tests_roc.png", panels)
        text.append(
            "### ROC curves\n\nThe target against all other images of the set, by the probability of the target. "
            "Areas are in [roc_areas.csv](roc_areas.csv).\n\n![ROC curves](four_tests_roc.png)\n"
        )
    if outcome.examples is not None:
        plot_contact_sheet(folder / "manipulated.png", *outcome.examples)
        text.append("### Manipulated images\n\n![Images with the concept replaced](manipulated.png)\n")
    return text


def _edit(outcome: FourTestsOutcome) -> str:
    return "No edit" if outcome.edited is None else f"The edit {outcome.edited}"


def _describe(outcome: FourTestsOutcome) -> str:
    sizes = {name: some.num_images for name, some in outcome.sets.items()}
    text = (
        f"{markdown_text(_edit(outcome))}, judged by {outcome.num_images} test images. Target: "
        f"{', '.join(map(markdown_code, outcome.target))}. `random`: {sizes['random']} images drawn with seed "
        f"{outcome.seed}; `confusing`: {sizes['confusing']} images, the {100 * outcome.confusing_share:g} % in which "
        "the concept is seen most, as far as it is found there"
    )
    if outcome.noise is not None:
        text += (
            f"; `mislabelled`: {sizes['mislabelled']} images, those of the target under the label "
            f"{markdown_code(outcome.noise)}, "
            "and those that have it rightly: same and other classes are those that images truly belong to, "
            "accuracy and confidence those of the given label"
        )
    return f"{text}."


def _rows(outcome: FourTestsOutcome) -> Iterator[list[str]]:
    """Yield a row for each set and test, and one for all test images."""
    for name, some in outcome.sets.items():
        for test, title in TESTS.items():
            count, accuracies, confidences = _of_test(some, test)
            yield [name, title, str(count), *map(_percent, accuracies), *map(_number, confidences)]
    overall = [_percent(outcome.accuracy_before), _percent(outcome.accuracy), "", ""]
    yield ["all", "normal", str(outcome.num_images), *overall]


def _figures(outcome: FourTestsOutcome) -> Table:
    """Return the exact figures of each set and test, and those of all test images."""
    rows: list[list[object]] = []
    for name, some in outcome.sets.items():
        for test in TESTS:
            count, accuracies, confidences = _of_test(some, test)
            rows.append([name, test, count, *map(_defined, (*accuracies, *confidences))])
    rows.append(["all", "normal", outcome.num_images, outcome.accuracy_before, outcome.accuracy, None, None])
    return Table(["set", "test", "num_images", *QUANTITIES], rows)


def _areas(outcome: FourTestsOutcome) -> Table:
    rows = [
        [name, version, _defined(before.auc.item()), _defined(after.auc.item())]
        for name, some in outcome.sets.items()
        for version, (before, after) in some.curves.items()
    ]
    return Table(["set", "version", "auc_before", "auc"], rows)


def _panels(outcome: FourTestsOutcome) -> Iterator[RocPanel]:
    for name, some in outcome.sets.items():
        for version, (before, after) in some.curves.items():
            if not before.auc.isnan():
                yield RocPanel(f"{name}, {version}", before, after)


def _undefined(outcome: FourTestsOutcome) -> str:
    """Say of which images there is no ROC curve, and why."""
    sentences = []
    for name, some in outcome.sets.items():
        for version, (before, _) in some.curves.items():
            if before.auc.isnan():
                counts = [some.figures[f"{version}_{group}_num_images"] for group in GROUPS]
                sentences.append(
                    f"There is no ROC curve of {version} images of the set `{name}`, which has {counts[0]:.0f} of "
                    f"the target and {counts[1]:.0f} others."
                )
    return "\n" + " ".join(sentences) + "\n" if sentences else ""


def _of_test(some: SetOutcome, test: str) -> tuple[int, list[float], list[float]]:
    """Return a test's number of images, its accuracies and its confidences, each before and after."""
    figures = [some.figures[f"{test}_{quantity}"] for quantity in QUANTITIES]
    return int(some.figures[f"{test}_num_images"]), figures[:2], figures[2:]


def _defined(value: float) -> float | None:
    return None if value != value else value


def _arrow(cells: list[str]) -> str:
    before, after = cells
    return f"{before.removesuffix(' %')} → {after}" if before.strip("—") else before


def _percent(value: float) -> str:
    return "—" if value != value else f"{100 * value:.2f} %"


def _number(value: float) -> str:
    return "—" if value != value else f"{value:.3f}"
