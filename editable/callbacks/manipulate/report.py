"""What making manipulated images leaves for its reader: counts by class, and a contact sheet."""

from collections.abc import Sequence
from pathlib import Path

from editable.callbacks.manipulate.outcome import ClassCount, ManipulationOutcome
from editable.tables import Table, markdown_code
from editable.visualize import plot_contact_sheet

__all__ = ["summary", "write"]

MOST_CLASSES = 20
HEADER = ("class", "images", "with the concept", "mean part replaced")


def summary(outcome: ManipulationOutcome) -> Table:
    """Return the classes with most images of the concept, and the sum of all."""
    counts = outcome.counts()
    order = sorted(range(len(counts)), key=lambda label: (-counts[label].found, label))
    with_concept = [label for label in order if counts[label].found]
    rows = [_row(outcome.classes[label], [counts[label]]) for label in with_concept[:MOST_CLASSES]]
    further = with_concept[MOST_CLASSES:]
    if further:
        rows.append(_row(f"{len(further)} further ones", [counts[label] for label in further]))
    return Table(HEADER, [*rows, _row("all", [counts[label] for label in order])])


def write(outcome: ManipulationOutcome, folder: Path) -> list[str]:
    """Write ``manipulated.csv``, ``looked_at.csv`` and the contact sheet into a folder; return the report's section."""
    by_class = zip(outcome.classes, outcome.counts(), strict=True)
    Table(HEADER, [_row(name, [count]) for name, count in by_class]).write_csv(folder / "manipulated.csv")
    _looked_at(outcome).write_csv(folder / "looked_at.csv")
    values = outcome.values()
    text = (
        f"## Manipulated images\n\nThe concept is found in {values['num_found']:.0f} of "
        f"{values['num_images']:.0f} images, in {values['num_classes']:.0f} of {len(outcome.classes)} "
        f"classes. They are in {markdown_code(str(outcome.out))}, with a manifest. Counts of all classes are in "
        "[manipulated.csv](manipulated.csv), what was found in each image in [looked_at.csv](looked_at.csv).\n\n"
        f"{summary(outcome).markdown()}\n"
    )
    if outcome.examples is not None:
        plot_contact_sheet(folder / "contact_sheet.png", *outcome.examples)
        text += f"\n{len(outcome.examples.names)} of them: original, mask, manipulated.\n"
        text += "\n![Contact sheet](contact_sheet.png)\n"
    return [text]


def _looked_at(outcome: ManipulationOutcome) -> Table:
    """Return a row for each image."""
    images = zip(outcome.names, outcome.labels.tolist(), outcome.shares.tolist(), strict=True)
    rows = [(name, outcome.classes[label], int(share > 0), f"{share:.6f}") for name, label, share in images]
    return Table(("image", "class", "found", "share"), rows)


def _row(name: str, counts: Sequence[ClassCount]) -> list[str]:
    """Return the sum of some classes."""
    images, found, share = (sum(column) for column in zip(*counts, strict=True))
    return [name, str(images), str(found), f"{100 * share / found:.1f} %" if found else "–"]
