"""What the replacement of a concept does to images, all of them and each class, and the order of classes by it."""

from collections.abc import Sequence
from math import inf, isnan, sqrt
from typing import Literal, NamedTuple, get_args

from torch import Tensor

from editable.callbacks.scan.records import ScanRecords

__all__ = ["Change", "ClassChange", "NetworkChanges", "RankBy", "class_changes", "network_changes", "ranking"]

RankBy = Literal["error", "top_probability", "taken"]
"""The change that classes are ranked by: the largest rise in error first, the largest fall in top probability, or the
largest rise of the part of the other classes' images that is given to a class."""

NORMAL_QUANTILE = 1.96
"""Of 97.5 %."""


class Change(NamedTuple):
    """A mean over images before and after the replacement; both are undefined, NaN, without an image."""

    before: float
    after: float
    half_width: float = float("nan")
    """Of the 95 % interval of the change, from the images' own changes; undefined below two images."""

    @property
    def change(self) -> float:
        """After less before."""
        return self.after - self.before

    @staticmethod
    def of(values: Tensor) -> "Change":
        """Return the mean of values before and after, [n, 2]."""
        before, after = values.double().mean(dim=0).tolist()
        if len(values) < 2:
            return Change(before, after)
        differences = values[:, 1].double() - values[:, 0].double()
        return Change(before, after, NORMAL_QUANTILE * differences.std().item() / sqrt(len(values)))


class ClassChange(NamedTuple):
    """What the replacement does to images of one class, by one network.

    Attributes:
        label: The class.
        num_images: Images of the class that were looked at.
        num_found: Those of them in which the concept was found; the next three are of these alone.
        error: Part of them that is wrong.
        top: Mean probability of the predicted label.
        true: Mean probability of the true label.
        taken: Part of the images of other classes in which the concept was found that the network gives to this class.
    """

    label: int
    num_images: int
    num_found: int
    error: Change
    top: Change
    true: Change
    taken: Change

    def values(self) -> dict[str, float]:
        """Return the four changes by name, each before and after; what is undefined is left out."""
        named = {"error": self.error, "top_probability": self.top, "true_probability": self.true, "taken": self.taken}
        values = {f"{name}_{when}": getattr(some, when) for name, some in named.items() for when in ("before", "after")}
        return {name: value for name, value in values.items() if not isnan(value)}


class NetworkChanges(NamedTuple):
    """What the replacement does to images, by one network.

    Attributes:
        by_class: To those of each class, by label.
        error: Part that is wrong, of all images where the concept was found.
        top: Mean probability of the predicted label on them.
        true: Mean probability of the true label on them.
    """

    by_class: list[ClassChange]
    error: Change
    top: Change
    true: Change

    def values(self) -> dict[str, float]:
        """Return the three changes over all classes by name, each before and after."""
        named = {"error": self.error, "top_probability": self.top, "true_probability": self.true}
        return {f"{name}_{when}": getattr(some, when) for name, some in named.items() for when in ("before", "after")}


def class_changes(records: ScanRecords, labels: Tensor, num_classes: int, network: int = 0) -> list[ClassChange]:
    """Return what the replacement does to each class.

    Args:
        records: Of the images that were looked at.
        labels: True labels of all test images, int64 [N].
        num_classes: Number of classes.
        network: Which of the networks.
    """
    sizes = labels[records.positions].bincount(minlength=num_classes)
    some = records.of_found
    true_labels = labels[some.positions]
    predictions, top, true = (field[:, network] for field in (some.predictions, some.top, some.true))
    wrong = predictions != true_labels[:, None]
    changes = []
    for label in range(num_classes):
        own = true_labels == label
        change = ClassChange(
            label,
            num_images=int(sizes[label]),
            num_found=int(own.sum()),
            error=Change.of(wrong[own]),
            top=Change.of(top[own]),
            true=Change.of(true[own]),
            taken=Change.of(predictions[~own] == label),
        )
        changes.append(change)
    return changes


def network_changes(records: ScanRecords, labels: Tensor, num_classes: int, network: int) -> NetworkChanges:
    """Return what the replacement does to all images and to each class, by one network.

    Args:
        records: Of the images that were looked at.
        labels: True labels of all test images, int64 [N].
        num_classes: Number of classes.
        network: Position of the network that is meant among those that were looked at.
    """
    some = records.of_found
    wrong = some.predictions != labels[some.positions][:, None, None]
    means = (Change.of(field[:, network]) for field in (wrong, some.top, some.true))
    return NetworkChanges(class_changes(records, labels, num_classes, network), *means)


def ranking(changes: Sequence[ClassChange], rank_by: RankBy, min_found: int) -> list[int]:
    """Return labels in the order of what the replacement does to their classes, most harm first.

    Ties are broken by the rise in error, then by the fall in top probability, and by that of the true label's.

    Args:
        changes: Of the classes, by label.
        rank_by: The change that decides.
        min_found: Least number of images with the concept in a class; classes with fewer are not ranked, save by what
            is taken, for which a class needs no image of its own.
    """
    assert rank_by in get_args(RankBy), rank_by

    def harm(label: int) -> tuple[float, ...]:
        some = changes[label]
        falls = {"error": -some.error.change, "top_probability": some.top.change, "taken": -some.taken.change}
        return (*map(_or_last, (falls[rank_by], falls["error"], falls["top_probability"], some.true.change)), label)

    least = 0 if rank_by == "taken" else max(min_found, 1)
    return sorted((some.label for some in changes if some.num_found >= least), key=harm)


def _or_last(value: float) -> float:
    """Return a value to sort by; what is undefined comes last."""
    return inf if isnan(value) else value
