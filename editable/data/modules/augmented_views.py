"""Augmented views of the images that a network is evaluated on, by which the generality of an edit is judged."""

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from editable.data.modules.augmentations import make_augmentation
from editable.data.modules.image_data_module import EvaluationImages
from editable.data.modules.training_order import AugmentedImages
from editable.errors import UserError, require_at_least, require_seed

__all__ = ["AugmentedViews"]


class AugmentedViews(Dataset[Tensor]):
    """V augmented views of each image of a data set; an item is ``[V, C, H, W]``, as the network gets them.

    View v of image i depends on the seed, v and i alone. Of ``EvaluationImages``, the stored image
    is augmented and then normalised, as in training. Of any other data set, what the network gets is augmented: a crop
    then finds zeros outside of the image, which for normalised images is the mean colour instead of black.

    Args:
        dataset: the data set, items beginning with an image ``[C, H, W]`` as the network gets it.
        num_views: V.
        augmentation: name of the augmentation, see :func:`~editable.data.modules.augmentations.make_augmentation`.
        seed: seed of the views, ≥ 0.

    Raises:
        UserError: a number is out of range, the augmentation is unknown, or the items do not begin with images.
    """

    def __init__(self, dataset: Dataset, num_views: int = 8, augmentation: str = "crop_flip", seed: int = 0) -> None:
        require_at_least(1, num_views=num_views)
        require_seed(seed=seed)
        shape = list(dataset[0][0].shape)
        if len(shape) != 3:
            raise UserError(
                f"augmented views are made of images [C, H, W], got inputs of shape {shape}: set generality_views to 0"
            )
        stored = dataset
        resize: nn.Module = nn.Identity()
        normalise: nn.Module = nn.Identity()
        if isinstance(dataset, EvaluationImages):
            stored, resize, normalise = dataset.images, dataset.resize, dataset.normalise
        augment = make_augmentation(augmentation, (shape[1], shape[2]), resize)
        self.num_views, self.augmentation = num_views, augmentation
        self._augmented, self._normalise = AugmentedImages(stored, augment, seed), normalise

    def __len__(self) -> int:
        return len(self._augmented)

    def __getitem__(self, index: int) -> Tensor:
        return self._normalise(torch.stack([self._augmented[view, index][0] for view in range(self.num_views)]))
