"""What detectors and segmentation networks have in common as finders: a network of their own that knows categories."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from editable.data.classes import ClassName, ClassNames, named_classes
from editable.models import fingerprint, load_weights
from editable.rewriting.concepts.category_labels import category_labels, known_categories
from editable.rewriting.concepts.concept_finder import ConceptFinder

__all__ = ["CategoryFinder"]


class CategoryFinder(ConceptFinder):
    """Finds a concept by a network that was trained elsewhere to find categories, of which the concept is some.

    Args:
        model: The network.
        labels: The categories to look for, by name or number.
        categories: Names of all categories by label, or the full name of torchvision's weights that know theirs; null
            where labels are numbers.
        threshold: From where on a category counts as seen.
        weights: A file with the network's weights, ``.safetensors`` or a checkpoint of torch.

    Raises:
        UserError: If the network has no such category, or weights do not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        labels: ClassNames,
        categories: Sequence[ClassName | None] | str | None,
        threshold: float,
        weights: str | None,
    ) -> None:
        self.model, self.threshold = model, threshold
        self.labels = category_labels(labels, known_categories(categories))
        if weights is not None:
            load_weights(model, weights)
        self.settings: dict[str, Any] = {
            "weights": fingerprint(model.state_dict()),
            "labels": named_classes(labels),
            "threshold": threshold,
        }

    def prepare(
        self,
        network: nn.Module,
        normalise: Callable[[Tensor], Tensor],
        images: Iterable[Any] = (),
        progress: Callable[[int], object] = lambda images: None,
    ) -> None:
        """Put the finder's network on the device of the network under study."""
        device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
        self.model.to(device)

    def on_model_device(self, images: Tensor) -> Tensor:
        """Return images on the device of the finder's network."""
        return images.to(next((parameter.device for parameter in self.model.parameters()), images.device))
