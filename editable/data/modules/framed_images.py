"""What data modules of stored images of any size share: one size for the network, a cache, and a list of classes."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

from torch import nn

from editable.data.class_list import read_class_list
from editable.data.classes import ClassNames
from editable.data.images.frame import Frame, two_sides
from editable.data.images.grey import GreyImages
from editable.data.images.images import LabelledImages, cache_images
from editable.data.modules.image_data_module import ImageDataModule, Split
from editable.errors import UserError

__all__ = ["Augmentation", "FramedImageDataModule"]

Augmentation = Literal["none", "crop_flip", "shift_flip", "resized_crop_flip", "trivial_augment", "rand_augment"]
"""Names of augmentations that images of any size may have."""


class FramedImageDataModule(ImageDataModule):
    """Base of the data modules of stored images; a subclass says where they come from.

    Args:
        image_size: side, or height and width, in pixels, of the images that the network gets; null keeps the stored
            size, the same for all.
        resize_size: what an image is resized to before its centre is cut to image_size: its shorter side, or the height
            and width that it just covers, in pixels; null: image_size.
        cache: decode all images once and keep them in memory.
        batch_size: images in a batch, per device.
        num_workers: worker processes that load images; 0 loads in the main process.
        seed: seed of the training order, the augmentation, the held-out part and the limited parts.
        validation_fraction: part of the training images to hold out where there are no validation images, from 0 to
            below 1; 0 fits without validation.
        train_limit: number of training images to use, chosen by seed; null uses all.
        mean: mean of each channel, on a scale of 0 to 1; the default is ImageNet's. With one, images are made grey.
        std: standard deviation of each channel, on a scale of 0 to 1; the default is ImageNet's.
        augmentation: none; crop_flip, for small images: a random crop with padding 4 and a horizontal flip;
            shift_flip, for them in short runs: a shift by up to two pixels, and mirrored in every other epoch;
            resized_crop_flip, the usual one for ImageNet: a random crop of random scale and aspect, and the flip;
            trivial_augment: the same, one random change of colour or shape, and every tenth image with a rectangle
            erased; rand_augment: the same as resized_crop_flip, and two changes of middle strength.
        test_limit: number of test images to use, likewise; their positions are counted among themselves.
        classes: the deployed network's classes in the order of its labels: their names, or a file that has them: a name
            in each line, or the config.json (or its folder) of a network of Hugging Face; null: those of the data.
        train_size: side, or height and width, in pixels, of the random crops of training images, where augmentation
            takes crops of random scale; null: image_size. Smaller ones are faster, and may be better (Touvron et al.,
            NeurIPS 2019).

    Raises:
        UserError: an argument is out of range, or there are no such classes.
    """

    def __init__(
        self,
        image_size: int | Sequence[int] | None = None,
        resize_size: int | Sequence[int] | None = None,
        cache: bool = False,
        batch_size: int = 128,
        num_workers: int = 4,
        seed: int = 0,
        validation_fraction: float = 0.1,
        train_limit: int | None = None,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        augmentation: Augmentation = "none",
        test_limit: int | None = None,
        classes: ClassNames | None = None,
        train_size: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            batch_size, num_workers, seed, validation_fraction, train_limit, mean, std, augmentation, test_limit
        )
        self.frame = Frame(image_size, resize_size)
        self.image_size = image_size
        self.resize_size = resize_size
        self.cache = cache
        self.listed_classes = None if classes is None else read_class_list(classes)
        self.train_size = None if train_size is None else two_sides("train_size", train_size)
        if train_size is not None and augmentation in ("none", "crop_flip", "shift_flip"):
            raise UserError(
                f"train_size is {train_size}, but augmentation is {augmentation}, which takes no crops of random "
                "scale: leave it out, or give augmentation=resized_crop_flip"
            )

    @property
    def training_size(self) -> tuple[int, int]:
        """Height and width of the crops that augmentation takes, in pixels."""
        return super().training_size if self.train_size is None else self.train_size

    @property
    def resize(self) -> nn.Module:
        """What brings a stored image to ``image_size``; nothing where that is ``None``."""
        return self.frame.transform

    @abstractmethod
    def open_split(self, split: Split) -> LabelledImages | None:
        """Return the images of a part, decoded when they are asked for; see :meth:`ImageDataModule.load_split`."""

    def load_split(self, split: Split) -> LabelledImages | None:
        """Return the images of a part, in memory where they are cached; see :meth:`ImageDataModule.load_split`."""
        images = self.open_split(split)
        if images is None:
            return None
        if len(self.mean) == 1:
            images = GreyImages(images)
        return cache_images(images, self.num_workers, f"Decoding {split} images") if self.cache else images
