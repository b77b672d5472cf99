"""The handwritten digits that ship with scikit-learn: real data without a download."""

from collections.abc import Sequence
from typing import Literal

import torch

from editable.data.images.images import ArrayImages, LabelledImages
from editable.data.modules.image_data_module import ImageDataModule, Split
from editable.data.modules.splits import hold_out

__all__ = ["DigitsDataModule"]


class DigitsDataModule(ImageDataModule):
    """Handwritten digits, 1797 grey images of 8×8 pixels in 10 classes.

    A fifth of each class is the test set, always the same one whatever the seed, so that a network is never tested on
    what another seed trained on. The rest is for training and validation. Pixels, stored as 0..16, are scaled to 0..1
    and then normalised. Source: scikit-learn's ``load_digits`` (the test set of UCI's optical digits).

    Args:
        batch_size: images in a batch, per device.
        num_workers: worker processes that load images; 0 loads in the main process.
        seed: seed of the training order, the augmentation, the held-out part and the limited parts.
        validation_fraction: part of the training images to hold out for validation, from 0 to below 1; 0 fits without
            validation.
        train_limit: number of training images to use, chosen by seed; null uses all.
        test_limit: number of test images to use, likewise; their positions are counted among themselves.
        mean: mean of the one channel, on a scale of 0 to 1.
        std: standard deviation of the one channel, on a scale of 0 to 1.
        augmentation: none, or shift: a random crop with padding 1.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(
        self,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
        validation_fraction: float = 0.1,
        train_limit: int | None = None,
        mean: Sequence[float] = (0.3053,),
        std: Sequence[float] = (0.3760,),
        augmentation: Literal["none", "shift"] = "shift",
        test_limit: int | None = None,
    ) -> None:
        super().__init__(
            batch_size, num_workers, seed, validation_fraction, train_limit, mean, std, augmentation, test_limit
        )

    @property
    def classes(self) -> list[str]:
        """Class names: "0" to "9"."""
        return [str(digit) for digit in range(10)]

    def load_split(self, split: Split) -> LabelledImages | None:
        """Return the training or test images, float32 ``[N, 1, 8, 8]`` in 0..1; there are no validation images."""
        if split == "val":
            return None
        from sklearn.datasets import load_digits  # it takes pandas along, which no other data needs

        digits = load_digits()
        images = torch.from_numpy(digits.images).float().unsqueeze(1) / 16
        labels = torch.from_numpy(digits.target).long()
        train, test = hold_out(labels, fraction=0.2, seed=0)
        chosen = train if split == "train" else test
        return ArrayImages(images[chosen], labels[chosen])
