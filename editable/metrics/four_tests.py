"""Four tests of an edited classifier: images with and without the new concept, of the target and of other classes."""

import torch
from torch import Tensor
from torchmetrics import Metric

from editable.errors import UserError

__all__ = ["GROUPS", "VERSIONS", "FourTestScores", "four_test_figures", "four_test_sums", "reference_confidence"]

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


def four_test_sums(right: Tensor, confidence: Tensor, same: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the figures of one version are made of, by group: images of target classes, and others.

    Args:
        right: Whether each image got the reference label before and after the edit, bool [N, 2].
        confidence: Of :func:`reference_confidence`, before and after, float64 [N, 2].
        same: Whether each image is of a target class, bool [N].

    Returns:
        The number of images, int64 [2]; of those that are right, int64 [2, 2]; the sum of confidences, float64 [2, 2].
    """
    groups = (same, ~same)
    count = torch.stack([group.sum() for group in groups])
    correct = torch.stack([right[group].sum(dim=0) for group in groups])
    return count, correct, torch.stack([confidence[group].sum(dim=0) for group in groups])


def four_test_figures(count: Tensor, correct: Tensor, confidence: Tensor) -> dict[str, Tensor]:
    """Return the figures of the four tests by name, from sums by version and group; see :func:`four_test_sums`.

    Args:
        count: Number of images, int64 [2, 2].
        correct: Number of those that are right, before and after, int64 [2, 2, 2].
        confidence: Sum of confidences, before and after, float64 [2, 2, 2].

    Returns:
        ``<test>_num_images``, an int64, ``<test>_accuracy_before``, ``<test>_accuracy``, ``<test>_confidence_before``
        and ``<test>_confidence``, float64 in [0, 1]; NaN, as undefined, where a test has no image.
    """
    figures: dict[str, Tensor] = {}
    for version, version_name in enumerate(VERSIONS):
        for group, group_name in enumerate(GROUPS):
            test, images = f"{version_name}_{group_name}", count[version, group]
            figures[f"{test}_num_images"] = images
            for quantity, sums in (("accuracy", correct), ("confidence", confidence)):
                for when, end in enumerate(("_before", "")):
                    figures[f"{test}_{quantity}{end}"] = sums[version, group, when].double() / images
    return figures


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
        right = torch.stack([logits.argmax(dim=-1) == labels for logits in (before, after)], dim=1)
        confidence = torch.stack([reference_confidence(logits, labels) for logits in (before, after)], dim=1)
        sums = four_test_sums(right, confidence, same)
        for state, added in zip((self.count, self.correct, self.confidence), sums, strict=True):
            state[int(manipulated)] += added

    def compute(self) -> dict[str, Tensor]:
        """Return scalars by name, as :func:`four_test_figures` has them."""
        return four_test_figures(self.count, self.correct, self.confidence)
