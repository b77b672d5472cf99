"""Data sets of Hugging Face, from local files or from the hub."""

import importlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editable.data.classes import ClassNames
from editable.data.images.images import LabelledImages, require_size
from editable.data.images.reader import read_image, read_image_bytes
from editable.data.modules.collections.labels import classes_of, label_of
from editable.data.modules.framed_images import Augmentation, FramedImageDataModule
from editable.data.modules.image_data_module import Split
from editable.errors import UserError

__all__ = ["HuggingFaceDataModule"]

HUB = "hf-hub:"
"""What stands before the id of a data set on the hub."""
SAVED = ("dataset_dict.json", "state.json")
"""What ``save_to_disk`` leaves in a folder."""


class HuggingFaceDataModule(FramedImageDataModule):
    """A data set of Hugging Face's ``datasets``: a folder that ``save_to_disk`` or others have written, or a hub id.

    Images are decoded by the same reader as files are. Nothing is asked of the hub unless ``source`` names it, and no
    code that comes with a data set is run.

    Args:
        source: a folder that ``save_to_disk`` has written, or with Parquet files, or with images in folders; or
            ``hf-hub:owner/name``, which is downloaded once.
        name: which configuration of the data set, where it has several.
        image_column: name of the column of images.
        label_column: name of the column of labels: classes, numbers, or names.
        train_split: name of the split of training images.
        val_split: name of the split of validation images.
        test_split: name of the split of test images.

    Raises:
        UserError: an argument is out of range, or datasets is not installed; there is no such data set, it cannot be
            read, or it has not these columns; a label is none of the classes.
    """

    def __init__(
        self,
        source: str,
        name: str | None = None,
        image_column: str = "image",
        label_column: str = "label",
        train_split: str = "train",
        val_split: str = "validation",
        test_split: str = "test",
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
        self.source, self.configuration = source, name
        self.image_column, self.label_column = image_column, label_column
        self.split_names: dict[Split, str] = {"train": train_split, "val": val_split, "test": test_split}
        if len(set(self.split_names.values())) < 3:
            names = ", ".join(self.split_names.values())
            raise UserError(f"train_split, val_split and test_split must differ, got {names}")

    @cached_property
    def classes(self) -> list[str]:
        """Class names: those listed, those of the label column, or what stands in it.

        Raises:
            UserError: the data set cannot be read.
        """
        if self.listed_classes is not None:
            return self.listed_classes
        parts = self._parts
        names = getattr(next(iter(parts.values())).features[self.label_column], "names", None)
        if names:
            return list(names)
        return classes_of([str(label) for part in parts.values() for label in part[self.label_column]], self._called)

    def open_split(self, split: Split) -> LabelledImages | None:
        """Return the images of a split; ``None`` where the data set has none for validation or test.

        Raises:
            UserError: the data set cannot be read, a label is none of the classes, or there are no training images.
        """
        part = self._parts.get(self.split_names[split])
        if part is None or not len(part):
            if split == "train":
                raise UserError(
                    f"{self._called} has no images in a split '{self.split_names['train']}', but the splits "
                    f"{', '.join(self._parts)}: training images come from there, and validation images where there are "
                    "none"
                )
            return None
        where = f"{self._called} ({self.split_names[split]})"
        own = getattr(part.features[self.label_column], "names", None)
        labels = [
            label_of(_class_name(label, own, f"row {row} of {where}"), self.classes, f"row {row} of {where}")
            for row, label in enumerate(part[self.label_column])
        ]
        images = _TableImages(part, self.image_column, torch.tensor(labels, dtype=torch.int64), where)
        if self.image_size is None:
            height, width = images.read(0).shape[-2:]
            images.size = (height, width)
        return images

    @property
    def _called(self) -> str:
        return f"the data set '{self.source}'"

    @cached_property
    def _parts(self) -> dict[str, Any]:
        """The splits by name, images not decoded."""
        datasets = _import("datasets")
        folder = Path(self.source).expanduser()
        from_hub = self.source.startswith(HUB)
        if not from_hub and not folder.is_dir():
            raise UserError(f"there is no folder '{self.source}': give one, or {HUB}owner/name to ask the hub")
        try:
            if from_hub:
                found = datasets.load_dataset(self.source.removeprefix(HUB), self.configuration)
            elif any((folder / name).is_file() for name in SAVED):
                found = datasets.load_from_disk(str(folder))
            else:
                found = datasets.load_dataset(str(folder), self.configuration)
        except Exception as error:  # whatever its readers of files, and the hub, raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{self._called} cannot be read ({reason})") from error
        parts = dict(found) if isinstance(found, dict) else {self.split_names["test"]: found}
        return {name: self._without_decoding(part, datasets) for name, part in parts.items()}

    def _without_decoding(self, part: Any, datasets: Any) -> Any:
        for column in (self.image_column, self.label_column):
            if column not in part.features:
                raise UserError(f"{self._called} has no column '{column}': it has {', '.join(part.features)}")
        if not isinstance(part.features[self.image_column], datasets.Image):
            raise UserError(f"the column '{self.image_column}' of {self._called} has no images")
        return part.cast_column(self.image_column, datasets.Image(decode=False))


class _TableImages(LabelledImages):
    """Images of a column that has image files' content, or their paths."""

    def __init__(self, part: Any, column: str, labels: Tensor, where: str) -> None:
        super().__init__(labels)
        self.part, self.column, self.where = part, column, where
        self.size: tuple[int, int] | None = None

    def read(self, index: int) -> Tensor:
        """Return the image, uint8 ``[3, H, W]``, at position ``index``."""
        stored = self.part[index][self.column]
        name = f"in row {index} of {self.where}"
        if stored is None:
            raise UserError(f"there is no image {name}")
        content = stored["bytes"]
        image = read_image(stored["path"]) if content is None else read_image_bytes(content, name)
        require_size(image, self.size, name)
        return image


def _class_name(label: Any, own: Sequence[str] | None, where: str) -> str:
    """Return what a label is called by the data set; a number where that has no names."""
    if isinstance(label, bool) or not isinstance(label, int | str) or (own and not 0 <= int(label) < len(own)):
        raise UserError(f"{where} has the label {label}, which is no class: leave such images out of the data set")
    return own[int(label)] if own else str(label)


def _import(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(f"data sets of Hugging Face need the package {package}: pip install -e '.[hub]'") from error
