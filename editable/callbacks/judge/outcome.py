"""What comes of judging an edit: figures and ROC curves of each set of images, before and after it."""

from dataclasses import dataclass
from typing import NamedTuple

from editable.callbacks.run.replaced_examples import ReplacedExamples
from editable.metrics import TargetCurve

__all__ = ["FourTestsOutcome", "SetOutcome"]


class SetOutcome(NamedTuple):
    """What came of a set.

    Attributes:
        num_images: Number of images in the set.
        figures: Of :func:`~editable.metrics.four_tests.four_test_figures`; NaN where undefined.
        curves: For normal and manipulated images: the ROC curve of the target classes before and after the edit.
    """

    num_images: int
    figures: dict[str, float]
    curves: dict[str, tuple[TargetCurve, TargetCurve]]

    def values(self) -> dict[str, float]:
        """Return all figures that are defined, and areas under curves."""
        values = {"num_images": float(self.num_images), **self.figures}
        for version, (before, after) in self.curves.items():
            values |= {f"{version}_auc_before": before.auc.item(), f"{version}_auc": after.auc.item()}
        return {name: value for name, value in values.items() if value == value}


@dataclass(frozen=True)
class FourTestsOutcome:
    """An edited network beside the unedited one.

    Attributes:
        target: Names of the classes that the rule is about.
        noise: Name of the class that their images are called by in the mislabelled set; none where there is no such
            set.
        edited: Name of the file with the edited network's weights; none where the network was compared with itself.
        confusing_share: Part of the test images that is confusing.
        seed: Of the random images.
        num_images: Number of test images.
        accuracy_before: On all of them.
        accuracy: The same of the edited network.
        sets: What came of each set, by its name.
        examples: Some manipulated images.
    """

    target: list[str]
    noise: str | None
    edited: str | None
    confusing_share: float
    seed: int
    num_images: int
    accuracy_before: float
    accuracy: float
    sets: dict[str, SetOutcome]
    examples: ReplacedExamples | None

    def values(self) -> dict[str, float]:
        """Return what is logged: all figures that are defined."""
        values = {
            "accuracy_before": self.accuracy_before,
            "accuracy": self.accuracy,
            "drop": self.accuracy_before - self.accuracy,
        }
        for name, outcome in self.sets.items():
            values |= {f"{name}_{figure}": value for figure, value in outcome.values().items()}
        return values
