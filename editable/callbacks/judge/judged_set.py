"""One set of images under the four tests: metrics that are fed batch by batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from editable.callbacks.judge.image_sets import ImageSet
from editable.callbacks.judge.outcome import SetOutcome
from editable.metrics import FourTestScores, TargetCurve, TargetRoc
from editable.metrics.four_tests import VERSIONS

__all__ = ["JudgedSet"]


class JudgedSet:
    """Metrics of a set, accumulated over batches and processes.

    Args:
        images: The set.
        same: Whether each image of the data set is of a target class by its own label, bool [N].
        targets: Labels of the target classes.
        device: Where logits are.
    """

    def __init__(self, images: ImageSet, same: Tensor, targets: Sequence[int], device: torch.device) -> None:
        self.images, self._same, self._targets = images, same, targets
        self._scores = FourTestScores().to(device)
        self._curves = {version: tuple(TargetRoc(targets).to(device) for _ in range(2)) for version in VERSIONS}

    def update(self, positions: Tensor, before: Tensor, after: Tensor, manipulated: bool) -> None:
        """Add those images of a batch that are in the set.

        Args:
            positions: Of the images in the data set, int64 [B], on the CPU.
            before: Logits of the unedited network, [B, C].
            after: Logits of the edited network, [B, C].
            manipulated: Whether the images have the new concept in the place of the old one.
        """
        inside = self.images.chosen[positions]
        positions, inside = positions[inside], inside.to(before.device)
        before, after = before[inside], after[inside]
        same = self._same[positions].to(before.device)
        self._scores.update(before, after, self.images.labels[positions].to(before.device), same, manipulated)
        for curve, logits in zip(self._curves[VERSIONS[manipulated]], (before, after), strict=True):
            curve.update(logits, same)

    def compute(self) -> SetOutcome:
        """Return what came out, of all processes."""
        none = torch.zeros(0, max(self._targets) + 1)
        for curve in (curve for pair in self._curves.values() for curve in pair):
            # A process without images of its own would not take part in collecting them.
            curve.update(none.to(curve.device), none.new_zeros(0, dtype=torch.bool, device=curve.device))
        figures = {name: value.item() for name, value in self._scores.compute().items()}
        curves = {
            version: (TargetCurve(*map(Tensor.cpu, before.compute())), TargetCurve(*map(Tensor.cpu, after.compute())))
            for version, (before, after) in self._curves.items()
        }
        return SetOutcome(len(self.images), figures, curves)
