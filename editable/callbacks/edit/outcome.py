"""What an edit of images came to: the edited images, other views of them, and the test images before and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from editable.editing.choosing.tried import Tried

__all__ = ["Choice", "EditedImages", "ImageEditOutcome", "ScoredImages"]

MOST_CHANGED = 24  # images that a report shows


class EditedImages(NamedTuple):
    """N images that were edited together, and V other views of each.

    Attributes:
        names: Of the images.
        classes: Names of the classes.
        images: The first ones, in [0, 1], [≤ N, C, H, W]; those that are drawn.
        labels: Asked for, int64 [N].
        before: Probabilities of the classes by the unedited network, [N, classes].
        after: By the edited network.
        views_before: Whether the unedited network gives a view the label asked for, bool [N, V].
        views_after: Whether the edited one does.
        num_steps: Number of updates.
        made: One after the other, whether each edit succeeded when it was made, bool [N]; empty where they were made
            together.
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
    made: Tensor = torch.zeros(0, dtype=torch.bool)

    @property
    def holds(self) -> Tensor:
        """Whether each image has its label in the end, bool [N]."""
        return self.after.argmax(dim=1) == self.labels

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
        edited: Which of them are the same as an edited image or an edited view, bool [S].
        changed: The first of the others whose prediction has changed, in [0, 1], [≤ 24, C, H, W].
    """

    labels: Tensor
    before: Tensor
    after: Tensor
    edited: Tensor
    changed: Tensor

    @staticmethod
    def join(parts: Sequence["ScoredImages"]) -> "ScoredImages":
        """Join batches, in their order."""
        labels, before, after, edited, changed = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return ScoredImages(labels, before, after, edited, changed[:MOST_CHANGED])

    @property
    def others(self) -> "ScoredImages":
        """Those that are neither edited nor views of edited ones: on these harm is counted."""
        labels, before, after, edited, changed = self
        return ScoredImages(labels[~edited], before[~edited], after[~edited], edited[~edited], changed)

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
        """Rise of the error rate, a fraction; NaN where there are no images."""
        if not len(self.labels):
            return float("nan")
        return (self.num_broken - self.num_corrected) / len(self.labels)


class Choice(NamedTuple):
    """How the editor was chosen, by test images that tell nothing else.

    Attributes:
        tried: All editors, in the order in which they were tried.
        chosen: Which of them was taken.
        num_asked: Number of images that shall get labels.
    """

    tried: list[Tried]
    chosen: int
    num_asked: int


@dataclass(frozen=True)
class ImageEditOutcome:
    """All that is told of an edit of images.

    Attributes:
        edited: The edited images.
        scored: The test images.
        max_drawdown: Largest rise of the error rate on the other test images, as a fraction, at which the edit is kept.
        choice: How the editor was chosen; none where it was given.
    """

    edited: EditedImages
    scored: ScoredImages
    max_drawdown: float
    choice: Choice | None = None

    @property
    def refusal(self) -> str | None:
        """Why the edit is not kept, and what to do; none where it is."""
        others = self.scored.others
        if not len(others.labels):
            chose = "" if self.choice is None else " or have chosen the editor"
            return (
                f"the edit succeeds, but all test images that are scored are edited ones{chose}, so that its harm is "
                "not known, and was not kept: test on more images (data, evaluation.image_stride)"
            )
        if others.drawdown <= self.max_drawdown:
            return None
        return (
            f"the edit succeeds, but raises the error rate by {100 * others.drawdown:.2f} points where "
            f"edit.max_drawdown allows {100 * self.max_drawdown:g}, and was not kept: allow more, lower the editor's "
            "learning rate, or make the network ready for edits (docs/editable-training.md)"
        )

    def values(self) -> dict[str, float]:
        """Return all figures by their metrics' names.

        Errors are those on test images that are neither edited nor views of edited ones. What there is none of is left
        out, such as generality without views.
        """
        edited, scored = self.edited, self.scored.others
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
            "num_edited_test_images": float(self.scored.edited.sum()),
            "drawdown_with_edited": self.scored.drawdown,
        }
        if len(edited.made):
            values |= {"num_made": float(edited.made.sum()), "num_holding": float(edited.holds.sum())}
        values = {name: value for name, value in values.items() if value == value}
        if edited.views_after.numel():
            values |= {"generality_before": _share(edited.views_before), "generality": _share(edited.views_after)}
        return values


def _share(which: Tensor) -> float:
    return which.double().mean().item()
