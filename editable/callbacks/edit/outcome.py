"""What an edit of images came to: the edited images, other views of them, and the test images before and after."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from rich.table import Table
from torch import Tensor

from editable.tables import terminal_table

__all__ = ["EditedImages", "ImageEditOutcome", "ScoredImages"]

MOST_CHANGED = 24


class EditedImages(NamedTuple):
    """N images that were edited together, and V other views of each.

    Attributes:
        names: Of the images.
        classes: Names of the classes.
        images: As the network takes them, [N, C, H, W].
        labels: Asked for, int64 [N].
        before: Probabilities of the classes by the unedited network, [N, classes].
        after: By the edited network.
        views_before: Whether the unedited network gives a view the label asked for, bool [N, V].
        views_after: Whether the edited one does.
        num_steps: Number of updates.
        params: The edited parameters by name.
    """

    names: list[str]
    classes: list[str]
    images: Tensor
    labels: Tensor
    before: Tensor
    after: Tensor
    views_before: Tensor
    views_after: Tensor
    num_steps: int
    params: dict[str, Tensor]

    def asked(self) -> list[str]:
        """Return what was asked for, a sentence for each image."""
        was = self.before.argmax(dim=1).tolist()
        return [
            f"{name}: {self.classes[old]} → {self.classes[new]}"
            for name, old, new in zip(self.names, was, self.labels.tolist(), strict=True)
        ]


class ScoredImages(NamedTuple):
    """Test images that both networks were run on, S of them.

    Attributes:
        labels: True labels, int64 [S].
        before: Labels that the unedited network predicts, int64 [S].
        after: Labels that the edited one predicts.
        changed: The first images whose prediction has changed, as the network takes them, [≤ 24, C, H, W].
    """

    labels: Tensor
    before: Tensor
    after: Tensor
    changed: Tensor

    @staticmethod
    def of(images: Tensor, labels: Tensor, before: Tensor, after: Tensor) -> "ScoredImages":
        """Keep what is needed of a batch of images [B, C, H, W]."""
        return ScoredImages(labels, before, after, images[before != after][:MOST_CHANGED])

    @staticmethod
    def join(parts: Sequence["ScoredImages"]) -> "ScoredImages":
        """Join batches, in their order."""
        labels, before, after, changed = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return ScoredImages(labels, before, after, changed[:MOST_CHANGED])

    @property
    def num_corrected(self) -> int:
        """Number of images that were wrong and are right."""
        return int(((self.before != self.labels) & (self.after == self.labels)).sum())

    @property
    def num_broken(self) -> int:
        """Number of images that were right and are wrong."""
        return int(((self.before == self.labels) & (self.after != self.labels)).sum())

    @property
    def drawdown(self) -> float:
        """Rise of the error rate, a fraction."""
        return (self.num_broken - self.num_corrected) / len(self.labels)


class ImageEditOutcome(NamedTuple):
    """All that is told of an edit of images.

    Attributes:
        edited: The edited images.
        scored: The test images.
    """

    edited: EditedImages
    scored: ScoredImages

    def values(self) -> dict[str, float]:
        """Return all figures by their metrics' names; generality is left out where there are no views."""
        edited, scored = self
        values = {
            "num_steps": float(edited.num_steps),
            "num_images": float(len(edited.labels)),
            "error_before": _share(scored.before != scored.labels),
            "error": _share(scored.after != scored.labels),
            "drawdown": scored.drawdown,
            "agreement": _share(scored.after == scored.before),
            "num_corrected": float(scored.num_corrected),
            "num_broken": float(scored.num_broken),
            "num_scoring_images": float(len(scored.labels)),
        }
        if edited.views_after.numel():
            values |= {"generality_before": _share(edited.views_before), "generality": _share(edited.views_after)}
        return values

    def rows(self) -> list[list[str]]:
        """Return a table's header and rows: each image, views and test images, before and after."""
        edited, values = self.edited, self.values()
        rows = [["", "before", "after"]]
        for name, label, *both in zip(edited.names, edited.labels.tolist(), edited.before, edited.after, strict=True):
            rows.append([f"{name}, asked for {edited.classes[label]}", *(self._told(some) for some in both)])
        if "generality" in values:
            title = f"{edited.views_after.shape[1]} other views of each have the label asked for"
            rows.append([title, *(f"{100 * values[name]:.1f} %" for name in ("generality_before", "generality"))])
        title = f"errors on {len(self.scored.labels)} test images"
        rows.append([title, *(f"{100 * values[name]:.2f} %" for name in ("error_before", "error"))])
        return rows

    def title(self) -> str:
        """Return what the edit is called."""
        count, steps = len(self.edited.names), self.edited.num_steps
        return f"Edit of {count} image{'s' * (count > 1)} in {steps} step{'s' * (steps > 1)}"

    def table(self) -> Table:
        """Return the table for the terminal."""
        header, *rows = self.rows()
        return terminal_table(header, rows, title=self.title())

    def _told(self, probabilities: Tensor) -> str:
        label = int(probabilities.argmax())
        return f"{self.edited.classes[label]} ({100 * probabilities[label]:.1f} %)"


def _share(which: Tensor) -> float:
    return which.double().mean().item()
