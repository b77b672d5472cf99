"""What came of a stream of corrections: a line for each, and what held and what it cost after so many of them."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from editable.data.modules.changed_views import CHANGES

__all__ = ["Certificate", "StreamOutcome", "StreamPoint"]


class StreamPoint(NamedTuple):
    """Where a stream stands after n corrections; shares as fractions, NaN where there is nothing to take one of.

    Attributes:
        num_edits: n.
        latest_success: Whether the n-th has its label; together, whether all have.
        retention: Share of corrected images that have their labels.
        error: Error rate on the judged images.
        broken: Share of judged images that were right and are wrong.
        mended: Share of judged images that were wrong and are right.
        agreement: Share of judged images of which the unedited network predicts the same.
        generality: Share of further views of corrected images that have the asked label.
        changes: Of the corrected images, changed in each of the ways in ``CHANGES``, the share with the asked label.
        group_size: Number of judged images that the unedited network mistakes in the same way as a corrected one.
        group_generality: Share of these that are right.
        seconds: For all corrections so far.
        num_bytes: Size of what they have changed.
    """

    num_edits: int
    latest_success: bool
    retention: float
    error: float
    broken: float
    mended: float
    agreement: float
    generality: float
    changes: list[float]
    group_size: int
    group_generality: float
    seconds: float
    num_bytes: int


class Certificate(NamedTuple):
    """What is promised of a stream that was kept within a budget.

    Attributes:
        counted: What: images that were right and are wrong, or, without labels, changed predictions.
        budget: Largest share of them that is allowed.
        level: Confidence of the bound.
        bound: Upper bound of the share after the last correction that was kept.
        num_counted: How many of the images it is.
        num_images: Number of certifying images, which are neither corrected nor judged.
        num_refused: Number of corrections that were not kept.
    """

    counted: Literal["broken", "changed"]
    budget: float
    level: float
    bound: float
    num_counted: int
    num_images: int
    num_refused: int


@dataclass(frozen=True)
class StreamOutcome:
    """All that is told of a stream; tensors lie on the CPU.

    Attributes:
        protocol: Whether each correction was made on top of the last, or those so far together.
        editor: What made them, and which parameters it changed.
        index: Position of each corrected image in the test set, int64 [n], in the order of correction.
        old_label: What the unedited network predicts for it, int64 [n].
        new_label: The label asked for, int64 [n].
        kept: Whether the correction was kept, bool [n].
        success: Whether it succeeded when it was made, bool [n].
        seconds: How long it took, float64 [n].
        held: Whether the image has its label after the last one, bool [n].
        views_held: Share of its views that have, float64 [n]; NaN without views.
        points: Where the stream stood.
        error_before: Error rate of the unedited network on the judged images.
        num_judged: Number of judged images, which are neither corrected nor chose anything.
        generality_before: Share of views that have the asked label before any correction; NaN without views.
        changes_before: The same of changed images, for each change.
        num_views: Number of views of each image that judge.
        num_edited_views: Number of further views that are corrected with it.
        augmentation: What makes the views.
        seed: Of order and halves.
        certificate: What is promised, where a budget was given.
        classes: Class names by label; none where they are unknown.
        num_copies: Number of images that do not judge, since they are the same as one that is corrected or chooses.
    """

    protocol: Literal["stream", "together"]
    editor: str
    index: Tensor
    old_label: Tensor
    new_label: Tensor
    kept: Tensor
    success: Tensor
    seconds: Tensor
    held: Tensor
    views_held: Tensor
    points: list[StreamPoint]
    error_before: float
    num_judged: int
    generality_before: float
    changes_before: list[float]
    num_views: int
    num_edited_views: int
    augmentation: str
    seed: int
    certificate: Certificate | None = None
    classes: list[str] | None = None
    num_copies: int = 0

    def values(self) -> dict[str, float]:
        """Return all figures after the last correction by their metrics' names; what there is none of is left out."""
        last = self.points[-1]
        values = {
            "num_edits": float(last.num_edits),
            "num_judged": float(self.num_judged),
            "error_before": self.error_before,
            "error": last.error,
            "broken": last.broken,
            "mended": last.mended,
            "agreement": last.agreement,
            "success_rate": self.success.double().mean().item(),
            "retention": last.retention,
            "generality_before": self.generality_before,
            "generality": last.generality,
            "group_size": float(last.group_size),
            "group_generality": last.group_generality,
            "seconds_per_edit": last.seconds / last.num_edits,
            "patch_bytes": float(last.num_bytes),
        }
        values |= {f"generality_{name}": share for name, share in zip(CHANGES, last.changes, strict=False)}
        if self.certificate is not None:
            values |= {
                "bound": self.certificate.bound,
                "num_certifying": float(self.certificate.num_images),
                "num_refused": float(self.certificate.num_refused),
            }
        return {name: value for name, value in values.items() if value == value}
