"""Four tests of an edited classifier: images with and without the new concept, of the target and of other classes."""

import torch
from torch import Tensor
from torchmetrics import Metric

from editable.errors import UserError

__all__ = ["GROUPS", "VERSIONS", "FourTestScores", "reference_confidence"]

VERSIONS = ("normal", "manipulated")
"""An image as it is, and the same with the new concept in the place of the old one."""

GROUPS = ("same", "other")
"""Images of the target classes, which the rule is about, and images of all other classes."""


def reference_confidence(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the softmax probability that a classifier gives to the reference labels.

    Args:
        logits: [N, C].
        labels: Reference labels, int64 [N].

    Returns:
        float64 [N], in [0, 1].
    """
    return logits.double().softmax(dim=-1).gather(-1, labels[:, None])[:, 0]


class FourTestScores(Metric):
    """Accuracy and confidence before and after an edit, in each of four tests (Elango 2021, table 2.1).

    The tests are ``normal_same``, ``normal_other``, ``manipulated_same`` and ``manipulated_other``. Accuracy is the
    part of the images whose largest logit is that of the reference label, confidence the mean of
    :func:`reference_confidence`. Both are accumulated as sums, accuracy as whole numbers, so that neither the order of
    the images nor how they are shared out over processes matters. A network compared with itself has equal figures.

    Example:
        >>> metric = FourTestScores()
        >>> before, after = torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> metric.update(before, after, torch.tensor([0, 1]), torch.tensor([True, False]), manipulated=False)
        >>> {name: value.item() for name, value in metric.compute().items() if name.startswith("normal_other_acc")}
        {'normal_other_accuracy_before': 0.0, 'normal_other_accuracy': 1.0}
    """

    is_differentiable = False
    higher_is_better = None  # one would have accuracy rise in three tests, and stay in the fourth
    full_state_update = False
    count: Tensor
    correct: Tensor
    confidence: Tensor

    def __init__(self) -> None:
        super().__init__()
        # By version and group; then before and after.
        self.add_state("count", default=torch.zeros(2, 2, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("correct", default=torch.zeros(2, 2, 2, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("confidence", default=torch.zeros(2, 2, 2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, before: Tensor, after: Tensor, labels: Tensor, same: Tensor, manipulated: bool) -> None:
        """Add images.

        Args:
            before: Logits of the unedited network, [N, C].
            after: Logits of the edited network, [N, C].
            labels: Reference labels, int64 [N].
            same: Whether each image is of a target class, bool [N].
            manipulated: Whether the images have the new concept in the place of the old one.

        Raises:
            UserError: If shapes do not fit.
        """
        if before.ndim != 2 or before.shape != after.shape or not labels.shape == same.shape == before.shape[:1]:
            shapes = [list(tensor.shape) for tensor in (before, after, labels, same)]
            raise UserError(f"logits before and after must be [N, C], labels and groups [N], got {shapes}")
        version = int(manipulated)
        for group, chosen in enumerate((same, ~same)):
            self.count[version, group] += chosen.sum()
            for when, logits in enumerate((before, after)):
                right = logits.argmax(dim=-1) == labels
                self.correct[version, group, when] += (right & chosen).sum()
                self.confidence[version, group, when] += reference_confidence(logits, labels)[chosen].sum()

    def compute(self) -> dict[str, Tensor]:
        """Return scalars by name.

        ``<test>_num_images``, an int64, ``<test>_accuracy_before``, ``<test>_accuracy``, ``<test>_confidence_before``
        and ``<test>_confidence``, float64 in [0, 1]; NaN, as undefined, where a test has no image.
        """
        figures: dict[str, Tensor] = {}
        for version, version_name in enumerate(VERSIONS):
            for group, group_name in enumerate(GROUPS):
                test, count = f"{version_name}_{group_name}", self.count[version, group]
                figures[f"{test}_num_images"] = count
                for quantity, sums in (("accuracy", self.correct), ("confidence", self.confidence)):
                    for when, end in enumerate(("_before", "")):
                        figures[f"{test}_{quantity}{end}"] = sums[version, group, when].double() / count
        return figures
