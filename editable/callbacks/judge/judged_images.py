"""What the unedited and the edited network make of each image, and the figures of a set that follow from it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from editable.callbacks.judge.image_sets import ImageSet
from editable.callbacks.judge.outcome import SetOutcome
from editable.metrics import TargetCurve
from editable.metrics.four_tests import VERSIONS, four_test_figures, four_test_sums
from editable.metrics.target_roc import target_curve, target_probability

__all__ = ["JudgedImages", "accuracies", "judge", "judge_set"]


class JudgedImages(NamedTuple):
    """What became of n images; where the concept was not found, nothing was judged, and all but the position is 0.

    Attributes:
        positions: Of the images among all test images, int64 [n].
        found: Whether they were judged: normal images all, manipulated ones where the concept was found, bool [n].
        predictions: Predicted labels before and after the edit, int64 [n, 2].
        own: Probability of the image's own label, before and after, float64 [n, 2].
        noise: Probability of the label that images of the target are called by in the mislabelled set, float64 [n, 2];
            0 where there is no such set.
        target: Probability of any of the target classes, float64 [n, 2].
    """

    positions: Tensor
    found: Tensor
    predictions: Tensor
    own: Tensor
    noise: Tensor
    target: Tensor


def judge(
    logits: Sequence[Tensor],
    positions: Tensor,
    found: Tensor,
    labels: Tensor,
    targets: Sequence[int],
    noise: int | None,
) -> JudgedImages:
    """Return what is kept of the logits of some images.

    Args:
        logits: Of the unedited and of the edited network, on the images that are judged, each [m, C].
        positions: Of all n images, int64 [n].
        found: Which of them are judged, m of them, bool [n].
        labels: Their own labels, int64 [n].
        targets: Labels of the target classes.
        noise: Label that images of the target are called by; none where there is no mislabelled set.
    """
    count = len(found)
    predictions = torch.zeros(count, 2, dtype=torch.int64)
    own, called, target = (torch.zeros(count, 2, dtype=torch.float64) for _ in range(3))
    for when, some in enumerate(logits):
        given = some.cpu().double()
        probabilities = given.softmax(dim=-1)
        predictions[found, when] = given.argmax(dim=-1)
        own[found, when] = probabilities.gather(-1, labels[found, None])[:, 0]
        target[found, when] = target_probability(given, targets)
        if noise is not None:
            called[found, when] = probabilities[:, noise]
    return JudgedImages(positions, found, predictions, own, called, target)


def judge_set(images: ImageSet, same: Tensor, labels: Tensor, versions: Sequence[JudgedImages]) -> SetOutcome:
    """Return what came of a set.

    Images are summed up in the order of their positions, whatever batches and processes they were looked at in.

    Args:
        images: The set.
        same: Whether each image of the data set is of a target class by its own label, bool [N].
        labels: Own labels of the data set, int64 [N].
        versions: What became of normal and of manipulated images, sorted by position; what is not of the set is left
            out.
    """
    sums: list[tuple[Tensor, Tensor, Tensor]] = []
    curves: dict[str, tuple[TargetCurve, TargetCurve]] = {}
    for version, judged in zip(VERSIONS, versions, strict=True):
        inside = judged.found & images.chosen[judged.positions]
        positions, predictions, own, noise, target = (field[inside] for field in (judged.positions, *judged[2:]))
        called, here = images.labels[positions], same[positions]
        confidence = torch.where((called == labels[positions])[:, None], own, noise)
        sums.append(four_test_sums(predictions == called[:, None], confidence, here))
        curves[version] = (target_curve(target[:, 0], here), target_curve(target[:, 1], here))
    figures = four_test_figures(*(torch.stack(some) for some in zip(*sums, strict=True)))
    return SetOutcome(len(images), {name: value.item() for name, value in figures.items()}, curves)


def accuracies(normal: JudgedImages, labels: Tensor) -> tuple[float, float]:
    """Return the accuracy before and after the edit on all test images, as they are.

    Args:
        normal: What became of them.
        labels: Their labels, int64 [N], by position.
    """
    before, after = (normal.predictions == labels[normal.positions, None]).float().mean(dim=0).tolist()
    return before, after
