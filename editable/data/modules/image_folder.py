"""Any data set stored as folders of images, one folder per class."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from editable.data.classes import ClassNames, name_key, near_names
from editable.data.images.grey import GreyImages
from editable.data.images.images import ImageFiles, LabelledImages
from editable.data.images.listing import list_class_images, subfolders
from editable.data.images.nvjpeg import cache_by_nvjpeg, require_nvjpeg
from editable.data.images.reader import read_image
from editable.data.modules.framed_images import Augmentation, FramedImageDataModule
from editable.data.modules.image_data_module import Split
from editable.data.modules.planted_patch import PlantedPatch
from editable.errors import UserError, require_at_least

__all__ = ["ImageFolderDataModule"]


class ImageFolderDataModule(FramedImageDataModule):
    """Images in ``root/train/<class>/``, ``root/val/<class>/`` and ``root/test/<class>/``.

    Without ``classes``, classes are sorted by name, and files by name within a class (the order of torchvision's
    ``ImageFolder``); so the position of an image, which published protocols draw by, is fixed by the names. Grey,
    palette, CMYK and transparent images are converted to RGB.

    Of the three folders, those that a run does not need may be missing. Without ``val``, validation images are held
    out of ``train``; with it, ``validation_fraction`` has no meaning. Without ``test``, the validation images are the
    test images (as usual for ImageNet).

    Args:
        root: the folder that holds train, val and test.
        num_classes: number of class folders expected; null takes what is there.
        cue: a patch to plant in some of the images, as a spurious cue; null plants none.
        classes: the deployed network's classes in the order of its labels: their names, or a file that has them: a name
            in each line, or the config.json (or its folder) of a network of Hugging Face; each class folder must be one
            of them. null: the class folders, sorted.
        train_folder: name of the folder of training images.
        val_folder: name of the folder of validation images.
        test_folder: name of the folder of test images.
        decoder: pillow; or nvjpeg, with cache: decode on a CUDA device, many images at once, what is plain JPEG. Pixels
            may differ from Pillow's by some levels.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(
        self,
        root: str,
        num_classes: int | None = None,
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
        cue: PlantedPatch | None = None,
        test_limit: int | None = None,
        classes: ClassNames | None = None,
        train_folder: str = "train",
        val_folder: str = "val",
        test_folder: str = "test",
        train_size: int | Sequence[int] | None = None,
        decoder: Literal["pillow", "nvjpeg"] = "pillow",
    ) -> None:
        super().__init__(
            image_size,
            resize_size,
            cache,
            batch_size,
            num_workers,
            seed,
            validation_fraction,
            train_limit,
            mean,
            std,
            augmentation,
            test_limit,
            classes,
            train_size,
        )
        require_at_least(1, num_classes=num_classes)
        if decoder not in ("pillow", "nvjpeg"):
            raise UserError(f"decoder must be 'pillow' or 'nvjpeg', got {decoder!r}")
        if decoder == "nvjpeg":
            if not cache:
                raise UserError("decoder is nvjpeg, which decodes into memory: give cache=true, or decoder=pillow")
            require_nvjpeg()
        self.decoder = decoder
        self.root = Path(root).expanduser()
        self.expected_num_classes = num_classes
        self.cue = cue
        self.folders: dict[Split, str] = {"train": train_folder, "val": val_folder, "test": test_folder}
        if len({self.root / name for name in self.folders.values()}) < 3:
            raise UserError(f"train_folder, val_folder and test_folder must differ, got {self._wanted(', ')}")

    @cached_property
    def classes(self) -> list[str]:
        """Class names: those listed, or the names of the class folders, the same in each of train, val and test.

        Raises:
            UserError: there is no such folder, or the class folders are not as they should be.
        """
        first, *others = self._folders()
        if self.listed_classes is not None:
            names = self.listed_classes
            for folder in (first, *others):
                self._require_listed(folder, names)
        else:
            names = self._named_by_folders(first, others)
        if self.expected_num_classes not in (None, len(names)):
            what = (
                f"{first} has {len(names)} class folders" if self.listed_classes is None else f"{len(names)} are listed"
            )
            raise UserError(f"num_classes is {self.expected_num_classes}, but {what}.")
        return names

    def open_split(self, split: Split) -> ImageFiles | None:
        """Return the images of a folder, uint8 ``[3, H, W]`` each; ``None`` for a missing ``val`` or ``test``.

        Raises:
            UserError: training images are missing, a class has no image, or an image is broken.
        """
        folder, classes = self.root / self.folders[split], self.classes
        if not folder.is_dir():
            if split == "train":
                raise UserError(
                    f"{self.root} has no sub-folder {self.folders[split]}: training images come from there, and "
                    f"validation images where there is no {self.folders['val']}."
                )
            return None
        names, labels = list_class_images(folder, classes)
        self._look_for_empty(folder, split, labels)
        paths = names.below(folder)
        files = ImageFiles(paths, labels, self._demanded_size(paths[0]))
        files.names = names
        return files

    def load_split(self, split: Split) -> LabelledImages | None:
        """Return the images of a folder, some with the planted patch; see :meth:`open_split`."""
        images = super().load_split(split) if self.decoder == "pillow" else self._decoded_on_device(split)
        return images if self.cue is None or images is None else self.cue.plant(images, split, self.classes)

    def _decoded_on_device(self, split: Split) -> LabelledImages | None:
        files = self.open_split(split)
        if files is None:
            return None
        images = cache_by_nvjpeg(files, self.num_workers, f"Decoding {split} images")
        return GreyImages(images) if len(self.mean) == 1 else images

    def _named_by_folders(self, first: Path, others: Sequence[Path]) -> list[str]:
        """Return the names of a folder's class folders, which those of others must be among."""
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
        return names

    def _require_listed(self, folder: Path, classes: Sequence[str]) -> None:
        """Refuse class folders that are none of the classes, whose images would go unseen."""
        known = set(map(name_key, classes))
        odd = [name for name in subfolders(folder) if name_key(name) not in known]
        if odd:
            more = f", and {len(odd) - 1} others" if len(odd) > 1 else ""
            raise UserError(
                f"{folder} has the class folder {odd[0]}{more}, which is none of the {len(classes)} listed classes: "
                f"{near_names(odd[0], classes)}"
            )

    def _look_for_empty(self, folder: Path, split: Split, labels: Tensor) -> None:
        """Refuse classes without training images; say which have no image to be tested by."""
        counts = labels.bincount(minlength=self.num_classes).tolist()
        empty = [name for name, count in zip(self.classes, counts, strict=True) if not count]
        if not empty:
            return
        named = f"{', '.join(empty[:5])}{', …' if len(empty) > 5 else ''}"
        if (split == "train" and self.listed_classes is None) or len(empty) == self.num_classes:
            raise UserError(f"Each class folder of {folder} must hold an image, but {len(empty)} hold none: {named}.")
        rank_zero_warn(f"{len(empty)} of {self.num_classes} classes have no image in {folder}: {named}")

    def _folders(self) -> list[Path]:
        if not self.root.is_dir():
            raise UserError(f"The image folder {self.root} does not exist: root must hold {self._wanted(' or ')}.")
        folders = [self.root / name for name in self.folders.values() if (self.root / name).is_dir()]
        if not folders:
            raise UserError(
                f"The image folder {self.root} must have a sub-folder {self._wanted(' or ')}, but has none: others are "
                "named by train_folder, val_folder and test_folder."
            )
        return folders

    def _wanted(self, last: str) -> str:
        *first, end = self.folders.values()
        return f"{', '.join(first)}{last}{end}"

    def _demanded_size(self, first_path: str) -> tuple[int, int] | None:
        if self.image_size is not None:
            return None
        height, width = read_image(first_path).shape[-2:]
        return height, width
