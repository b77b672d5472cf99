"""CIFAR-10 from the original arrays."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torchvision.datasets import CIFAR10

from editable.data.images.images import ArrayImages, LabelledImages
from editable.data.modules.image_data_module import ImageDataModule, Split
from editable.errors import UserError

__all__ = ["CIFAR10DataModule"]


class CIFAR10DataModule(ImageDataModule):
    """CIFAR-10, 50,000 training and 10,000 test images of 3×32×32 in 10 classes.

    Validation images are held out of the training images, never taken from the test images. Published tables train on
    all 50,000: ``validation_fraction=0`` does so, and then fits without validation. Source: Krizhevsky, "Learning
    Multiple Layers of Features from Tiny Images", 2009.

    Args:
        root: folder that holds, or will hold, ``cifar-10-batches-py``.
        download: download the data set into root if it is not there.
        batch_size: images in a batch, per device.
        num_workers: worker processes that load images; 0 loads in the main process.
        seed: seed of the training order, the augmentation, the held-out part and the limited parts.
        validation_fraction: part of the training images to hold out for validation, from 0 to below 1; 0 fits without
            validation.
        train_limit: number of training images to use, chosen by seed; null uses all.
        test_limit: number of test images to use, likewise; their positions are counted among themselves.
        mean: mean of each channel, on a scale of 0 to 1.
        std: standard deviation of each channel, on a scale of 0 to 1.
        augmentation: none; crop_flip: a random crop with padding 4 and a horizontal flip; shift_flip: a shift by up to
            two pixels, and mirrored in every other epoch.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(
        self,
        root: str,
        download: bool = False,
        batch_size: int = 128,
        num_workers: int = 4,
        seed: int = 0,
        validation_fraction: float = 0.1,
        train_limit: int | None = None,
        mean: Sequence[float] = (0.4914, 0.4822, 0.4465),
        std: Sequence[float] = (0.2023, 0.1994, 0.2010),
        augmentation: Literal["none", "crop_flip", "shift_flip"] = "crop_flip",
        test_limit: int | None = None,
    ) -> None:
        super().__init__(
            batch_size, num_workers, seed, validation_fraction, train_limit, mean, std, augmentation, test_limit
        )
        self.root = Path(root).expanduser()
        self.download = download

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the labels."""
        return ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

    def prepare_data(self) -> None:
        """Download the data set if asked to; Lightning calls this on one process per node.

        Raises:
            UserError: the download fails.
        """
        if not self.download:
            return
        try:
            CIFAR10(self.root, download=True)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"CIFAR-10 cannot be downloaded to {self.root} ({error}): unpack cifar-10-python.tar.gz there by hand."
            ) from error

    def load_split(self, split: Split) -> LabelledImages | None:
        """Return the training or test images, uint8 ``[N, 3, 32, 32]``; there are no validation images of their own.

        Raises:
            UserError: the data set is not in ``root``, or not whole.
        """
        if split == "val":
            return None
        try:
            stored = CIFAR10(self.root, train=split == "train")
        except RuntimeError as error:
            raise UserError(
                f"CIFAR-10 is not in {self.root}, or not whole: set download to true, or unpack cifar-10-python.tar.gz "
                "there."
            ) from error
        images = torch.from_numpy(stored.data).permute(0, 3, 1, 2).contiguous()
        return ArrayImages(images, torch.tensor(stored.targets))
