"""What comes of a new class: how well each method tells it from the old ones, and what it costs these."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from editable.metrics import RocCurve
from editable.rewriting.new_class.negatives import NegativeChoice

__all__ = ["FilterMaps", "Kept", "LogitFigures", "NewClassOutcome"]

Kept = Literal["filter", "discriminant", "whitened_filter"]
"""What a grown network may have of the new class."""


class LogitFigures(NamedTuple):
    """What came of one method with one draw of examples.

    Attributes:
        method: ``filter``, ``discriminant``, ``whitened filter``, ``random``, ``class vector`` or ``compositional``.
        negative_weight: λ of a filter; none for the others.
        draw: Number of the draw.
        auc: Area under the ROC curve of the new logit, every old class counting the same.
        auc_probability: The same of the probability that the grown classifier gives the new class.
        recall: Part of the new class's test images that the grown classifier gives to it.
        lost: Part of the old classes' test images that it gives to the new class.
        accuracy: Of the grown classifier on the old classes' test images.
        loss: The filter's objective at the end; none for the others.
        positive_activation: Of a filter on the positives that it was trained on; none for the others.
        negative_activation: Of a filter on the negatives; none for the others.
    """

    method: str
    negative_weight: float | None
    draw: int
    auc: float
    auc_probability: float
    recall: float
    lost: float
    accuracy: float
    loss: float | None = None
    positive_activation: float | None = None
    negative_activation: float | None = None


class FilterMaps(NamedTuple):
    """Images that a filter was trained on, positives before negatives, and its maps of them; n of each.

    Attributes:
        images: In [0, 1], [n, C, H, W].
        is_new: Whether an image is of the new class.
        targets: The silhouettes, zero for negatives, in [0, 1], [n, h, w].
        before: Maps of the untrained filter after the sigmoid, [n, h, w].
        after: Maps of the trained filter after the sigmoid, [n, h, w].
    """

    images: Tensor
    is_new: list[bool]
    targets: Tensor
    before: Tensor
    after: Tensor


@dataclass(frozen=True)
class NewClassOutcome:
    """What came of a new class.

    Attributes:
        name: Of the new class.
        layer: Beside which filters stand.
        negatives: Which images of old classes are negatives.
        negative_weight: λ of the filter that is kept.
        max_loss: Part of the pool's images that may be given to the new class.
        num_positives: Number of images in a draw that are learnt from.
        num_negatives: Number of images of old classes in a draw.
        num_old_test_images: Number of images of old classes that judge.
        num_new_test_images: Number of images of the new class that judge.
        accuracy_before: Of the network on the old classes' test images.
        figures: Of each method, λ and draw.
        curves: ROC curves by draw, of each method by name; for ``filter`` with the λ that is kept.
        maps: What the filter of the first draw makes of some of its examples.
        configuration: Path of the configuration that loads the grown network; none where there is none.
        kept: What the grown network has.
    """

    name: str
    layer: str
    negatives: NegativeChoice
    negative_weight: float
    max_loss: float
    num_positives: int
    num_negatives: int
    num_old_test_images: int
    num_new_test_images: int
    accuracy_before: float
    figures: list[LogitFigures]
    curves: dict[str, list[RocCurve]]
    maps: FilterMaps
    configuration: str | None
    kept: Kept = "filter"

    @property
    def num_draws(self) -> int:
        """Number of times that examples were drawn."""
        return len(self.curves["filter"])

    @property
    def negative_weights(self) -> list[float]:
        """Each λ that filters were trained with, ascending."""
        return sorted({some.negative_weight for some in self.figures if some.negative_weight is not None})

    def of_method(self, method: str, negative_weight: float | None = None) -> list[LogitFigures]:
        """Return what came of a method, by draw; ``filter`` is that of the λ that is kept, unless another is given."""
        if method == "filter" and negative_weight is None:
            negative_weight = self.negative_weight
        return [some for some in self.figures if (some.method, some.negative_weight) == (method, negative_weight)]

    def values(self) -> dict[str, float]:
        """Return all figures by their metrics' names, as means over draws."""
        values: dict[str, float] = {
            "accuracy_before": self.accuracy_before,
            "negative_weight": self.negative_weight,
            "num_positives": self.num_positives,
            "num_negatives": self.num_negatives,
            "num_draws": self.num_draws,
            "num_old_test_images": self.num_old_test_images,
            "num_new_test_images": self.num_new_test_images,
        }
        for method in self.curves:
            end = "" if method == "filter" else f"_{method.replace(' ', '_')}"
            drawn = self.of_method(method)
            for name in ("auc", "auc_probability", "recall", "lost", "accuracy"):
                values[f"{name}{end}"] = sum(getattr(some, name) for some in drawn) / len(drawn)
        return {name: float(value) for name, value in values.items()}
