"""The outcome of an evaluation of edits: figures of each edit, their table, and what a report says about them."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from editable.atomic import write_csv
from editable.editing import DrawdownEstimate, EditOutcomes

__all__ = ["EvaluatedEdits"]


@dataclass(frozen=True)
class EvaluatedEdits:
    """The edits of an evaluation and what became of each; tensors lie on the CPU.

    Attributes:
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
        images: The first edited inputs, as the network gets them, at most 24, [n, C, H, W].
        estimate: Where only a random part of the scoring images was looked at: mean drawdown with its interval.
    """

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

    def write_table(self, path: Path) -> None:
        """Write a line for each edit, as CSV."""
        columns = {
            "index": self.index,
            "old_label": self.old_label,
            "new_label": self.new_label,
            "success": self.outcomes.success.int(),
            "num_steps": self.outcomes.num_steps,
            "drawdown": self.drawdown,
            **self.shares,
        }
        write_csv(path, [columns, *zip(*(column.tolist() for column in columns.values()), strict=True)])

    def describe(self) -> list[str]:
        """Return sentences about what the edits were scored on, and what agreement and generality came out."""
        shares = {name: f"{100 * share.mean().item():.1f} %" for name, share in self.shares.items()}
        of_views = f" of an input and {self.num_edited_views} further views of it" if self.num_edited_views else ""
        sentences = [f"{len(self.index)} edits{of_views}, each scored on {self._scored_on()}."]
        sentences.append(f"{shares['agreement']} of predictions on these stay as they were.")
        if self.num_sensitive:
            sentences.append(
                f"{self.num_sensitive} images are sensitive, which the unedited network just gets right: of these, "
                f"{shares['sensitive_agreement']} stay right."
            )
        else:
            sentences.append("No image is sensitive, so that there is no sensitive_agreement.")
        if self.num_views:
            sentences.append(
                f"Of {self.num_views} views of each edited input ({self.augmentation}), "
                f"{shares['generality_before']} have the label asked for before the edit, and {shares['generality']} "
                "after it."
            )
        return sentences

    def _scored_on(self) -> str:
        if self.estimate is None:
            return f"{self.num_images} images"
        estimate = self.estimate
        return (
            f"a random part of {self.num_images} images, {estimate.forward_passes} looked at in all: drawdown "
            f"{100 * estimate.drawdown:.3f} ± {100 * estimate.half_width:.3f} points (95 % confidence); the figures of "
            "a single edit are estimates with much noise"
        )
