"""What comes of making manipulated images: where the concept was found, by image and by class, and some examples."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from editable.callbacks.run.replaced_examples import ReplacedExamples

__all__ = ["ClassCount", "ManipulationOutcome"]


class ClassCount(NamedTuple):
    """What was found in the images of a class.

    Attributes:
        images: Number of its images.
        found: Number of those in which the concept was found.
        share: Sum of the parts of these that were replaced.
    """

    images: int
    found: int
    share: float


@dataclass(frozen=True)
class ManipulationOutcome:
    """What became of N images in which a concept was looked for.

    Attributes:
        out: The image folder that was made.
        classes: Names of all classes by label.
        labels: Of the images, int64 [N].
        names: Of the images, N.
        shares: Part of each image that was replaced, float64 [N]; 0 where the concept was not found.
        examples: Some of those with the concept.
    """

    out: str
    classes: list[str]
    labels: Tensor
    names: list[str]
    shares: Tensor
    examples: ReplacedExamples | None

    def counts(self) -> list[ClassCount]:
        """Return what was found in each class, by label."""
        number = len(self.classes)
        images = self.labels.bincount(minlength=number).tolist()
        found = self.labels[self.shares > 0].bincount(minlength=number).tolist()
        shares = self.labels.bincount(self.shares, number).tolist()
        return [ClassCount(*counts) for counts in zip(images, found, shares, strict=True)]

    def values(self) -> dict[str, float]:
        """Return what is logged."""
        there = self.shares[self.shares > 0]
        return {
            "num_images": float(len(self.shares)),
            "num_found": float(len(there)),
            "num_classes": float(sum(count.found > 0 for count in self.counts())),
            "mean_share": float(there.mean()),
        }
