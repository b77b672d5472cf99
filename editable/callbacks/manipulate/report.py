"""What making manipulated images leaves for its reader: counts by class, and a contact sheet."""

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor

from editable.atomic import write_csv
from editable.callbacks.manipulate.unfinished_folder import MadeImage
from editable.callbacks.run.replaced_examples import ReplacedExamples
from editable.tables import markdown_table, terminal_table
from editable.visualize.contact_sheet import plot_contact_sheet

__all__ = ["ManipulationReport"]

MOST_CLASSES = 20
HEADER = ("class", "images", "with the concept", "mean part replaced")


class ManipulationReport:
    """Counts and a contact sheet of manipulated images.

    Args:
        out: The image folder that was made.
        classes: Names of all classes by label.
        labels: Of all images that were looked at, int64 [N].
        names: Of all of them.
        made: What became of each of them.
        examples: Some of those with the concept.
    """

    def __init__(
        self,
        out: Path,
        classes: Sequence[str],
        labels: Tensor,
        names: Sequence[str],
        made: Sequence[MadeImage],
        examples: ReplacedExamples | None,
    ) -> None:
        self.out, self.classes, self.examples = out, classes, examples
        shares = torch.tensor([one.share for one in made], dtype=torch.float64)
        self._shares, self._names, self._labels = shares, names, labels.tolist()
        self._images = labels.bincount(minlength=len(classes)).tolist()
        self._found = labels[shares > 0].bincount(minlength=len(classes)).tolist()
        self._totals = labels.bincount(shares, len(classes)).tolist()

    def values(self) -> dict[str, float]:
        """Return what is logged."""
        there = self._shares[self._shares > 0]
        return {
            "num_images": float(len(self._shares)),
            "num_found": float(len(there)),
            "num_classes": float(sum(found > 0 for found in self._found)),
            "mean_share": float(there.mean()),
        }

    def table(self) -> Table:
        """Return the counts as a table for the terminal."""
        return terminal_table(HEADER, self._shown())

    def write(self, folder: Path) -> list[str]:
        """Write all files into a folder; return the report's section in Markdown."""
        order = range(len(self.classes))
        write_csv(folder / "manipulated.csv", [HEADER, *(self._row(label) for label in order)])
        write_csv(folder / "looked_at.csv", self._looked_at())
        values = self.values()
        text = (
            f"## Manipulated images\n\nThe concept is found in {values['num_found']:.0f} of "
            f"{values['num_images']:.0f} images, in {values['num_classes']:.0f} of {len(self.classes)} "
            f"classes. They are in `{self.out}`, with a manifest. Counts of all classes are in "
            "[manipulated.csv](manipulated.csv), what was found in each image in [looked_at.csv](looked_at.csv).\n\n"
            f"{markdown_table(HEADER, self._shown())}\n"
        )
        if self.examples is not None:
            plot_contact_sheet(folder / "contact_sheet.png", *self.examples)
            text += f"\n{len(self.examples.names)} of them: original, mask, manipulated.\n"
            text += "\n![Contact sheet](contact_sheet.png)\n"
        return [text]

    def _looked_at(self) -> list[tuple[object, ...]]:
        rows = zip(self._names, self._labels, self._shares.tolist(), strict=True)
        return [
            ("image", "class", "found", "share"),
            *((name, self.classes[label], int(share > 0), f"{share:.6f}") for name, label, share in rows),
        ]

    def _shown(self) -> list[list[str]]:
        """Return the rows of the classes with most images of the concept, and the sum of all."""
        order = sorted(range(len(self.classes)), key=lambda label: (-self._found[label], label))
        with_concept = [label for label in order if self._found[label]]
        rows = [self._row(label) for label in with_concept[:MOST_CLASSES]]
        further = with_concept[MOST_CLASSES:]
        if further:
            rows.append(self._sum(f"{len(further)} further ones", further))
        return [*rows, self._sum("all", order)]

    def _row(self, label: int) -> list[str]:
        return self._sum(self.classes[label], [label])

    def _sum(self, name: str, labels: Sequence[int]) -> list[str]:
        images, found, share = (
            sum(counts[label] for label in labels) for counts in (self._images, self._found, self._totals)
        )
        return [name, str(images), str(found), f"{100 * share / found:.1f} %" if found else "–"]
