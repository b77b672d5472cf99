"""A concept found by an object detector: the masks or boxes of what it detects."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from editable.data.classes import ClassName, ClassNames
from editable.data.concepts.polygons import polygon_mask
from editable.errors import UserError, require_within
from editable.models import evaluation_mode
from editable.rewriting.concepts.category_finder import CategoryFinder

__all__ = ["DetectorFinder"]

MASK_LEVEL = 0.5
"""From where a detector's soft mask counts as the object, as torchvision's documentation advises."""


class DetectorFinder(CategoryFinder):
    """Finds a concept where an object detector sees certain categories.

    The detector is any of ``torchvision.models.detection``, or one with the same interface: from a list of images
    [C, H, W] in [0, 1] to a dictionary for each, with ``boxes`` [k, 4] (left, top, right, bottom, in pixels),
    ``labels`` [k], ``scores`` [k] and, where it has them, ``masks`` [k, 1, H, W]. Without masks the boxes are taken.

    Args:
        detector: The detector; one with random weights needs ``weights_backbone: null`` in torchvision.
        labels: The categories to look for, by name or number.
        categories: Names of all categories by label, or the full name of torchvision's weights that know theirs, such
            as ``MaskRCNN_ResNet50_FPN_Weights.COCO_V1``; null where labels are numbers.
        threshold: Least score of a detection.
        weights: A file with the detector's weights, ``.safetensors`` or a checkpoint of torch.

    Raises:
        UserError: If the detector has no such category, the threshold is out of range, or weights do not fit.

    See Also:
        :class:`~editable.rewriting.SegmentationFinder`, for networks that label each pixel.
    """

    def __init__(
        self,
        detector: nn.Module,
        labels: ClassNames,
        categories: list[ClassName | None] | str | None = None,
        threshold: float = 0.5,
        weights: str | None = None,
    ) -> None:
        require_within("[0, 1]", threshold=threshold)
        super().__init__(detector, labels, categories, threshold, weights)
        self.settings |= {"detector": type(detector).__name__}

    def find(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Return the union of what is detected, see :meth:`ConceptFinder.find`."""
        size = (images.shape[-2], images.shape[-1])
        return torch.stack([self._mask(detected, size) for detected in self._detect(images)]).to(images)

    def activation(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Return the highest score in each image, 0 where nothing of the categories is detected."""
        best = [
            max(detected["scores"][self._wanted(detected)].tolist(), default=0.0) for detected in self._detect(images)
        ]
        return images.new_tensor(best)

    @torch.no_grad()
    def _detect(self, images: Tensor) -> list[Mapping[str, Tensor]]:
        with evaluation_mode(self.model):
            found = self.model(list(self.on_model_device(images)))
        if not isinstance(found, list) or not all(
            isinstance(one, Mapping) and {"boxes", "labels", "scores"} <= one.keys() for one in found
        ):
            raise UserError(
                f"{type(self.model).__name__} is no detector like those of torchvision, which return boxes, labels "
                "and scores of each image: for one that labels pixels use SegmentationFinder"
            )
        return [{name: values.cpu() for name, values in one.items()} for one in found]

    def _wanted(self, detected: Mapping[str, Tensor]) -> Tensor:
        return torch.isin(detected["labels"], torch.tensor(self.labels))

    def _mask(self, detected: Mapping[str, Tensor], size: tuple[int, int]) -> Tensor:
        kept = self._wanted(detected) & (detected["scores"] >= self.threshold)
        if not kept.any():
            return torch.zeros(size)
        if "masks" in detected:
            return (detected["masks"][kept, 0] >= MASK_LEVEL).any(dim=0).float()
        return torch.stack([polygon_mask([_corners(box)], size) for box in detected["boxes"][kept]]).amax(dim=0)


def _corners(box: Tensor) -> np.ndarray:
    left, top, right, bottom = box.tolist()
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
