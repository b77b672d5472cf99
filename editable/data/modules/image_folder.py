"""Any data set stored as folders of images, one folder per class."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from editable.data.classes import name_key
from editable.data.images.frame import Frame
from editable.data.images.images import ImageFiles, LabelledImages, cache_images
from editable.data.images.listing import list_class_images, subfolders
from editable.data.images.reader import read_image
from editable.data.modules.image_data_module import ImageDataModule, Split
from editable.data.modules.planted_patch import PlantedPatch
from editable.errors import UserError, require_at_least

__all__ = ["ImageFolderDataModule"]


class ImageFolderDataModule(ImageDataModule):
    """Images in ``root/train/<class>/``, ``root/val/<class>/`` and ``root/test/<class>/``.

    Classes are sorted by name, and files by name within a class (the order of torchvision's ``ImageFolder``); so the
    position of an image, which published protocols draw by, is fixed by the names. Grey, palette, CMYK and transparent
    images are converted to RGB.

    Of the three folders, those that a run does not need may be missing. Without ``val``, validation images are held
    out of ``train``; with it, ``validation_fraction`` has no meaning. Without ``test``, the validation images are the
    test images (as usual for ImageNet).

    Args:
        root: the folder that holds train, val and test.
        num_classes: number of class folders expected; null takes what is there.
        image_size: height and width, in pixels, of the images that the network gets; null keeps the stored size, the
            same for all.
        resize_size: length of the shorter side, in pixels, before the centre crop to image_size; null: image_size.
        cache: decode all images once and keep them in memory.
        batch_size: images in a batch, per device.
        num_workers: worker processes that load images; 0 loads in the main process.
        seed: seed of the training order, the augmentation, the held-out part and the limited parts.
        validation_fraction: part of the training images to hold out where there is no val folder, from 0 to below 1; 0
            fits without validation.
        train_limit: number of training images to use, chosen by seed; null uses all.
        test_limit: number of test images to use, likewise; their positions are counted among themselves.
        mean: mean of each channel, on a scale of 0 to 1; the default is ImageNet's.
        std: standard deviation of each channel, on a scale of 0 to 1; the default is ImageNet's.
        augmentation: none; crop_flip, for small images: a random crop with padding 4 and a horizontal flip;
            resized_crop_flip, the usual one for ImageNet: a random crop of random scale and aspect, and the flip.
        cue: a patch to plant in some of the images, as a spurious cue; null plants none.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(
        self,
        root: str,
        num_classes: int | None = None,
        image_size: int | None = None,
        resize_size: int | None = None,
        cache: bool = False,
        batch_size: int = 128,
        num_workers: int = 4,
        seed: int = 0,
        validation_fraction: float = 0.1,
        train_limit: int | None = None,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        augmentation: Literal["none", "crop_flip", "resized_crop_flip"] = "none",
        cue: PlantedPatch | None = None,
        test_limit: int | None = None,
    ) -> None:
        super().__init__(
            batch_size, num_workers, seed, validation_fraction, train_limit, mean, std, augmentation, test_limit
        )
        require_at_least(1, num_classes=num_classes)
        self.frame = Frame(image_size, resize_size)
        self.root = Path(root).expanduser()
        self.expected_num_classes = num_classes
        self.image_size = image_size
        self.resize_size = resize_size
        self.cache = cache
        self.cue = cue

    @cached_property
    def classes(self) -> list[str]:
        """Class names, sorted: the names of the class folders, the same in each of train, val and test.

        Raises:
            UserError: there is no such folder, or the class folders are not as they should be.
        """
        first, *others = self._folders()
        names = subfolders(first)
        if not names:
            raise UserError(f"{first} has no class folders: images belong in {first}/<class>/.")
        for other in others:
            known = set(map(name_key, names))
            odd = [name for name in subfolders(other) if name_key(name) not in known]
            if odd:
                raise UserError(
                    f"{other} has the class {'folder' if len(odd) == 1 else 'folders'} {', '.join(odd)}, which {first} "
                    "has not: class folders must have the same names in train, val and test."
                )
        if self.expected_num_classes not in (None, len(names)):
            raise UserError(f"num_classes is {self.expected_num_classes}, but {first} has {len(names)} class folders.")
        return names

    @property
    def resize(self) -> nn.Module:
        """Shorter side to ``resize_size``, then the centre crop to ``image_size``; nothing where that is ``None``."""
        return self.frame.transform

    def load_split(self, split: Split) -> LabelledImages | None:
        """Return the images of a folder, uint8 ``[3, H, W]`` each; ``None`` for a missing ``val`` or ``test``.

        Raises:
            UserError: training images are missing, a class has no image, or an image is broken.
        """
        folder, classes = self.root / split, self.classes
        if not folder.is_dir():
            if split == "train":
                raise UserError(
                    f"{self.root} has no sub-folder train: training images come from there, and validation images "
                    "where there is no val."
                )
            return None
        paths, positions = list_class_images(folder, classes)
        labels = torch.tensor(positions, dtype=torch.int64)
        self._look_for_empty(folder, split, labels)
        files = ImageFiles([str(path) for path in paths], labels, self._demanded_size(paths[0]))
        files.names = [path.relative_to(folder).as_posix() for path in paths]
        images = cache_images(files, self.num_workers, f"Decoding {split} images") if self.cache else files
        return images if self.cue is None else self.cue.plant(images, split, self.classes)

    def _look_for_empty(self, folder: Path, split: Split, labels: Tensor) -> None:
        """Refuse classes without training images; say which have no image to be tested by."""
        counts = labels.bincount(minlength=self.num_classes).tolist()
        empty = [name for name, count in zip(self.classes, counts, strict=True) if not count]
        if not empty:
            return
        named = f"{', '.join(empty[:5])}{', …' if len(empty) > 5 else ''}"
        if split == "train" or len(empty) == self.num_classes:
            raise UserError(f"Each class folder of {folder} must hold an image, but {len(empty)} hold none: {named}.")
        rank_zero_warn(f"{len(empty)} of {self.num_classes} classes have no image in {folder}: {named}")

    def _folders(self) -> list[Path]:
        if not self.root.is_dir():
            raise UserError(f"The image folder {self.root} does not exist: root must hold train, val or test.")
        folders = [self.root / split for split in get_args(Split) if (self.root / split).is_dir()]
        if not folders:
            raise UserError(f"The image folder {self.root} must have a sub-folder train, val or test, but has none.")
        return folders

    def _demanded_size(self, first_path: Path) -> tuple[int, int] | None:
        if self.image_size is not None:
            return None
        height, width = read_image(first_path).shape[-2:]
        return height, width
