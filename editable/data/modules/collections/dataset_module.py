"""Any data set of torch, named by its class."""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch.utils.data import Dataset

from editable.data.classes import ClassNames
from editable.data.images.images import LabelledImages
from editable.data.modules.collections.dataset_images import DatasetImages, labels_in
from editable.data.modules.collections.labels import classes_of, label_of
from editable.data.modules.framed_images import Augmentation, FramedImageDataModule
from editable.data.modules.image_data_module import Split
from editable.errors import UserError

__all__ = ["DatasetDataModule"]

SplitValue = str | bool | None
"""What a data set calls one of its splits; none where it has none such."""


class DatasetDataModule(FramedImageDataModule):
    """Any :class:`torch.utils.data.Dataset` of images and labels, torchvision's and your own, by the class's path.

    Either one class for all splits, which an argument tells apart (``dataset``), or a class with arguments for each
    (``train``, ``val``, ``test``). An item is an image and its label; the image is one of Pillow, an array or a tensor
    of uint8, or a tensor of floats in 0..1, so leave out transforms that normalise. A data set is made when its images
    are asked for first. Class names are those of ``classes``, else what the data set calls ``classes``, else the
    labels.

    Args:
        dataset: the class and its arguments, for all splits.
        split_argument: which argument of ``dataset`` says the split.
        train_split: what it is for training images; null: there are none.
        val_split: what it is for validation images; null: there are none of their own.
        test_split: what it is for test images; null: there are none of their own.
        train: in place of ``dataset``, the class of the training images and its arguments.
        val: likewise of the validation images.
        test: likewise of the test images.

    Raises:
        UserError: an argument is out of range, no data set is given, or two splits of ``dataset`` are one; a data set
            cannot be made, is empty, or its items are no images with labels.
    """

    def __init__(
        self,
        dataset: Callable[[], Dataset] | None = None,
        split_argument: str = "split",
        train_split: SplitValue = "train",
        val_split: SplitValue = None,
        test_split: SplitValue = "test",
        train: Callable[[], Dataset] | None = None,
        val: Callable[[], Dataset] | None = None,
        test: Callable[[], Dataset] | None = None,
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
        if (dataset is None) == (train is None and val is None and test is None):
            raise UserError("a data set is given either as dataset, for all splits, or as train, val and test")
        self.makers: dict[Split, Callable[[], Dataset]] = {}
        own: dict[Split, Callable[[], Dataset] | None] = {"train": train, "val": val, "test": test}
        values: dict[Split, SplitValue] = {"train": train_split, "val": val_split, "test": test_split}
        given = [value for value in values.values() if value is not None]
        if dataset is not None and len(set(given)) < len(given):
            names = ", ".join(str(value) for value in values.values())
            raise UserError(f"train_split, val_split and test_split must differ, got {names}")
        for split, maker in own.items():
            if dataset is not None and values[split] is not None:
                self.makers[split] = _BySplit(dataset, split_argument, values[split])
            elif maker is not None:
                self.makers[split] = maker
        self._made: dict[Split, tuple[Dataset, list]] = {}

    @cached_property
    def classes(self) -> list[str]:
        """Class names: those listed, those of the data set, or its labels.

        Raises:
            UserError: a data set cannot be made.
        """
        if self.listed_classes is not None:
            return self.listed_classes
        split = next(iter(self.makers))
        dataset, labels = self._dataset(split)
        names = getattr(dataset, "classes", None)
        if isinstance(names, Sequence) and names and all(isinstance(name, str) for name in names):
            return list(names)
        return classes_of([str(label) for label in labels], f"the data set of {split}")

    def open_split(self, split: Split) -> LabelledImages | None:
        """Return the images of a split; ``None`` where there is none for validation or test.

        Raises:
            UserError: a data set cannot be made, is empty, or has labels that are none of the classes; there are no
                training images.
        """
        if split not in self.makers:
            if split == "train":
                raise UserError(
                    "there is no data set of training images: give data.train, or dataset with train_split; validation "
                    "images are held out of them where there are none"
                )
            return None
        dataset, found = self._dataset(split)
        name = f"{type(dataset).__name__} ({split})"
        labels = [self._label(label, f"item {index} of {name}") for index, label in enumerate(found)]
        images = DatasetImages(dataset, found, torch.tensor(labels, dtype=torch.int64), name)
        if self.image_size is None:
            height, width = images.read(0).shape[-2:]
            images.size = (height, width)
        return images

    def _label(self, label: object, where: str) -> int:
        if isinstance(label, bool) or not isinstance(label, int | str):
            raise UserError(f"{where} has the label {label!r}, but labels are numbers or names of classes")
        if isinstance(label, int):
            if not 0 <= label < self.num_classes:
                raise UserError(f"{where} has the label {label}, but there are {self.num_classes} classes, from 0")
            return label
        return label_of(label, self.classes, where)

    def _dataset(self, split: Split) -> tuple[Dataset, list]:
        """Make a data set, once, and look up its labels."""
        if split not in self._made:
            try:
                dataset = self.makers[split]()
            except UserError:
                raise
            except Exception as error:  # whatever somebody's data set raises where its files are not there
                reason = " ".join(str(error).split()) or type(error).__name__
                raise UserError(f"the data set of {split} cannot be made ({reason})") from error
            labels = labels_in(dataset, f"{type(dataset).__name__} ({split})")
            if not labels:
                raise UserError(f"{type(dataset).__name__} ({split}) has no images")
            self._made[split] = (dataset, labels)
        return self._made[split]


class _BySplit:
    """Makes a data set with the argument that says the split."""

    def __init__(self, dataset: Callable[..., Dataset], argument: str, value: SplitValue) -> None:
        self.dataset, self.argument, self.value = dataset, argument, value

    def __call__(self) -> Dataset:
        return self.dataset(**{self.argument: self.value})
