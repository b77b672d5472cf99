"""The outcome of an evaluation of edits: what became of each edit."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from editable.editing import DrawdownEstimate, EditOutcomes

__all__ = ["EvaluatedEdits"]


@dataclass(frozen=True)
class EvaluatedEdits:
    """The edits of an evaluation and what became of each; tensors lie on the CPU.

    Attributes:
        stage: Whether the ``test`` or the ``val`` set was looked at.
        index: Position of the edited input in its data set, int64 [E].
        old_label: What the unedited network predicts for it, int64 [E].
        new_label: The label asked for, int64 [E].
        outcomes: Success, number of steps, and what each edited network makes of scoring images and views.
        errors_before: Number of misclassified scoring images of the unedited network.
        num_images: Number of scoring images.
        num_sensitive: Number of sensitive scoring images.
        num_views: Number of views of each edited input that judge its edit.
        num_edited_views: Number of further ones that are edited with it.
        augmentation: What made the views.
        images: The first edited inputs, at most 24, in [0, 1], [n, C, H, W].
        classes: Class names by label; none where they are unknown.
        estimate: Where only a random part of the scoring images was looked at: mean drawdown with its interval.
    """

    stage: Literal["test", "val"]
    index: Tensor
    old_label: Tensor
    new_label: Tensor
    outcomes: EditOutcomes
    errors_before: int
    num_images: int
    num_sensitive: int
    num_views: int
    num_edited_views: int
    augmentation: str
    images: Tensor
    classes: list[str] | None = None
    estimate: DrawdownEstimate | None = None

    @property
    def drawdown(self) -> Tensor:
        """Change of the error rate on the scoring images by each edit, float64 [E]."""
        return (self.outcomes.errors_after - self.errors_before).double() / self.num_images

    @property
    def shares(self) -> dict[str, Tensor]:
        """Agreement and generality of each edit by the metric's name, float64 [E], as far as there is any."""
        outcomes = self.outcomes
        counts = {
            "agreement": (outcomes.agreeing, self.num_images),
            "sensitive_agreement": (outcomes.sensitive_agreeing, self.num_sensitive),
            "generality_before": (outcomes.views_before, self.num_views),
            "generality": (outcomes.views_after, self.num_views),
        }
        return {name: count.double() / total for name, (count, total) in counts.items() if total}
