"""What a rewrite of a generator came to: its measures, and pictures of the rule and of images before and after."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from editable.rewriting import GeneratorOutcome

__all__ = ["GeneratorRewriteOutcome", "RewriteFigures", "RulePictures", "UnseenPictures", "metrics"]


class RewriteFigures(NamedTuple):
    """Figures of the change itself, those of :class:`~editable.rewriting.RewriteResult`.

    Attributes:
        loss_before: Mean absolute difference of the exemplars' features from their targets, before.
        loss: The same after.
        rank: Numerical rank of the change.
        norm: Frobenius norm of the change.
        relative_norm: The norm as a part of that of the changed parameters.
        num_steps: Number of updates; 0 for a closed form.
        seconds: Time that the solver took.
    """

    loss_before: float
    loss: float
    rank: int
    norm: float
    relative_norm: float
    num_steps: int
    seconds: float


class RulePictures(NamedTuple):
    """What a rule asks for, and what came of it.

    Attributes:
        images: Generated images in [0, 1], [n, C, H, W].
        masks: What of each the rule names, in [0, 1], [n, H, W]; empty where it is the whole image that is shown.
        titles: What each shows.
    """

    images: Tensor
    masks: Tensor
    titles: list[str]


class UnseenPictures(NamedTuple):
    """Some unseen images before and after, and where the context matches in them.

    Attributes:
        before: In [0, 1], [n, C, H, W].
        after: Of the same latent vectors.
        responses: Of the layer's keys to the rule's directions, in the images' size, [n, H, W].
        matched: Where the context matches, in [0, 1], [n, H, W].
        numbers: Positions of their latent vectors among all unseen ones.
    """

    before: Tensor
    after: Tensor
    responses: Tensor
    matched: Tensor
    numbers: list[int]


@dataclass(frozen=True)
class GeneratorRewriteOutcome:
    """All that is told of a rewrite of a generator; tensors lie on the CPU.

    Attributes:
        layer: Name of the layer that was rewritten.
        measured: What the rewrite did to unseen images, pixels in their own units.
        change: Figures of the change itself.
        image_range: Least and greatest value of a pixel.
        rule: Pictures of the rule.
        strongest: Those of the unseen images where the context responds most.
        first: Those of the first unseen images.
    """

    layer: str
    measured: GeneratorOutcome
    change: RewriteFigures
    image_range: tuple[float, float]
    rule: RulePictures
    strongest: UnseenPictures
    first: UnseenPictures

    def values(self) -> dict[str, float]:
        """Return all figures by their metrics' names, those that are not known left out; pixels as parts of 1."""
        return metrics(self.measured, self.change, self.image_range)


def metrics(measured: GeneratorOutcome, change: RewriteFigures, image_range: tuple[float, float]) -> dict[str, float]:
    """Return figures by their metrics' names, those that are not known left out.

    Args:
        measured: What a rewrite did to unseen images.
        change: Figures of the change itself.
        image_range: Least and greatest value of a pixel, of which changes of pixels are told as a part.
    """
    low, high = image_range
    values: dict[str, float | None] = measured._asdict()
    for name, value in values.items():
        if name.startswith("pixel_change") and value is not None:
            values[name] = value / (high - low)
    return {name: float(value) for name, value in {**values, **change._asdict()}.items() if value is not None}
