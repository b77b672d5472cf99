"""One draw of examples of a new class: how examples are drawn and trained on, and what is made of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor

from editable.data.concepts.class_images import ClassImages
from editable.rewriting import LayerBlock
from editable.rewriting.new_class.class_discriminant import ClassDiscriminant, Discriminant
from editable.rewriting.new_class.class_filter import ClassFilter, ClassFilterTraining, FilterExamples
from editable.rewriting.new_class.negatives import NegativeChoice

__all__ = ["NewClassTrial", "TrialSettings"]


@dataclass(frozen=True)
class TrialSettings:
    """How examples are drawn, and what is trained on them.

    Attributes:
        layer: Beside which filters stand.
        images: Of the new class, to learn from.
        num_positives: Number of them in a draw; none takes all.
        num_draws: Number of draws.
        negatives: Which images of old classes are negatives.
        num_negatives: Number of them in a draw.
        training: How a filter is trained; its seed and that of the draw are added up.
        negative_weights: Each λ that a filter is trained with, ascending.
        baselines: Make the baselines too.
        components: Labels of the old classes that show parts of the new one; none takes what the network takes the
            positives for.
        component_images: In place of ``components``: images with masks of the parts.
        seed: Draw number d has seed + d.
        discriminant: How linear discriminants are made too; none makes none.
        mirrored: Whether discriminants are made of the mean of what is read of each image and of its mirror image.
    """

    layer: str
    images: ClassImages
    num_positives: int | None
    num_draws: int
    negatives: NegativeChoice
    num_negatives: int
    training: ClassFilterTraining
    negative_weights: list[float]
    baselines: bool
    components: list[int] | None
    component_images: ClassImages | None
    seed: int
    discriminant: ClassDiscriminant | None = None
    mirrored: bool = False

    @property
    def kept(self) -> int:
        """Position, among the filters of a draw, of the one with the training's own λ."""
        return self.negative_weights.index(self.training.negative_weight)


class NewClassTrial(NamedTuple):
    """What was made of one draw of examples.

    Attributes:
        block: The filters' layer.
        positives: Images of the new class, as the network takes them, [P, C, H, W].
        negatives: Positions of the negatives in the pool of images of old classes, int64 [N].
        negative_images: [N, C, H, W].
        examples: Both at the filter's layer.
        filters: For each weight λ of negatives.
        activations: Of each filter, the mean of σ(W * x) on positives and negatives.
        vectors: Baselines by name, float64 [d].
        discriminants: By name: ``discriminant`` of what the last layer reads, ``whitened filter`` of what the filters'
            layer reads.
    """

    block: LayerBlock
    positives: Tensor
    negatives: Tensor
    negative_images: Tensor
    examples: FilterExamples
    filters: list[ClassFilter]
    activations: list[tuple[float, float]]
    vectors: dict[str, Tensor]
    discriminants: Mapping[str, Discriminant] = MappingProxyType({})
