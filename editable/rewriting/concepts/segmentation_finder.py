"""A concept found by semantic segmentation: the pixels that a network gives certain categories."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize

from editable.data.classes import ClassName, ClassNames
from editable.errors import UserError, require_normalisation, require_within
from editable.models import evaluation_mode
from editable.rewriting.concepts.category_finder import CategoryFinder

__all__ = ["SegmentationFinder"]


class SegmentationFinder(CategoryFinder):
    """Finds a concept where a segmentation network gives certain categories a probability that is high enough.

    The network is any of ``torchvision.models.segmentation``, or one with the same interface: from normalised images
    [N, C, H, W] to a dictionary whose ``out`` are logits [N, K, H, W]. Probabilities of several categories add up.

    Args:
        segmenter: The network; one with random weights needs ``weights_backbone: null`` in torchvision.
        labels: The categories to look for, by name or number.
        categories: Names of all K categories by label, or the full name of torchvision's weights that know theirs,
            such as ``DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1``; null where labels are numbers.
        threshold: Least probability of a pixel.
        weights: A file with the network's weights, ``.safetensors`` or a checkpoint of torch.
        mean: Mean of each channel that the network expects, on a scale of 0 to 1; the default is ImageNet's.
        std: Standard deviation of each channel; the default is ImageNet's.

    Raises:
        UserError: If the network has no such category, the threshold is out of range, or weights do not fit.
    """

    def __init__(
        self,
        segmenter: nn.Module,
        labels: ClassNames,
        categories: list[ClassName | None] | str | None = None,
        threshold: float = 0.5,
        weights: str | None = None,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        require_within("(0, 1]", threshold=threshold)
        require_normalisation(mean, std)
        super().__init__(segmenter, labels, categories, threshold, weights)
        self.mean, self.std = list(mean), list(std)
        self.settings |= {"segmenter": type(segmenter).__name__, "mean": self.mean, "std": self.std}

    def find(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Return where the probability is at least the threshold, see :meth:`ConceptFinder.find`."""
        return (self._probability(images) >= self.threshold).to(images)

    def activation(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Return the highest probability in each image."""
        return self._probability(images).amax(dim=(1, 2)).to(images)

    @torch.no_grad()
    def _probability(self, images: Tensor) -> Tensor:
        """Return the probability of the categories together, [N, H, W]."""
        with evaluation_mode(self.model):
            found = self.model(self.on_model_device(normalize(images, self.mean, self.std)))
        logits = found.get("out") if isinstance(found, Mapping) else None
        expected = (len(images), *images.shape[-2:])
        if not isinstance(logits, Tensor) or logits.ndim != 4 or (len(logits), *logits.shape[-2:]) != expected:
            raise UserError(
                f"{type(self.model).__name__} is no segmentation network like those of torchvision, which return "
                "{'out': logits [N, K, H, W]} in the size of the images: for a detector use DetectorFinder"
            )
        if max(self.labels) >= logits.shape[1]:
            raise UserError(
                f"labels has {max(self.labels)}, but the segmentation network has {logits.shape[1]} categories"
            )
        return logits.softmax(dim=1)[:, self.labels].sum(dim=1)
