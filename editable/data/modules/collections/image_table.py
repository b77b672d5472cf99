"""Images that a table names, with their labels and splits."""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_warn

from editable.data.classes import ClassNames
from editable.data.images.images import ImageFiles, LabelledImages
from editable.data.images.listing import named_path
from editable.data.modules.collections.labels import classes_of, label_of
from editable.data.modules.framed_images import Augmentation, FramedImageDataModule
from editable.data.modules.image_data_module import Split
from editable.data.table_rows import TableRow, read_rows
from editable.errors import UserError

__all__ = ["ImageTableDataModule"]


class ImageTableDataModule(FramedImageDataModule):
    """Images of a CSV or Parquet file with a row for each: its path, its label and the split that it belongs to.

    A label is the name of a class or, where no class has that name, its number. Without ``classes``, they are the names
    in alphabetical order; where all labels are whole numbers, these are the labels themselves. Images come in the
    table's order, and are known by their paths as the table has them. Without rows of ``val_split``, validation images
    are held out of the training images; without rows of ``test_split``, the validation images are the test images.

    Args:
        table: the table, CSV in UTF-8 with the columns' names in its first line, or Parquet.
        root: what paths are relative to; null: the table's folder.
        path_column: name of the column of paths.
        label_column: name of the column of labels.
        split_column: name of the column of splits; null: all rows are test images.
        train_split: what stands there for training images.
        val_split: what stands there for validation images.
        test_split: what stands there for test images.

    Raises:
        UserError: an argument is out of range, the table cannot be read, or has not these columns, or no row; a row
            has no path or label, an image that is not there or stands twice, a label that is none of the classes, or
            a split that is none of the three.
    """

    def __init__(
        self,
        table: str,
        root: str | None = None,
        path_column: str = "path",
        label_column: str = "label",
        split_column: str | None = "split",
        train_split: str = "train",
        val_split: str = "val",
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
        self.table = Path(table).expanduser()
        self.root = self.table.parent if root is None else Path(root).expanduser()
        self.columns = [path_column, label_column, *([] if split_column is None else [split_column])]
        self.split_names: dict[Split, str] = {"train": train_split, "val": val_split, "test": test_split}
        if len(set(self.split_names.values())) < 3:
            raise UserError(f"train_split, val_split and test_split must differ, got {', '.join(self._known_splits)}")

    @cached_property
    def classes(self) -> list[str]:
        """Class names: those listed, or those of the table.

        Raises:
            UserError: the table cannot be read, or says something else than it should.
        """
        return self.listed_classes or classes_of([row.cells[1] for row in self._rows], f"'{self.table}'")

    def open_split(self, split: Split) -> LabelledImages | None:
        """Return the images of a split; ``None`` where the table has none for validation or test.

        Raises:
            UserError: the table cannot be read, or says something else than it should; there are no training images.
        """
        rows = [row for row in self._rows if self._split_of(row) == self.split_names[split]]
        if not rows:
            if split == "train":
                there = ", ".join(dict.fromkeys(self._split_of(row) for row in self._rows))
                raise UserError(
                    f"'{self.table}' has no row of the split '{self.split_names[split]}', but of {there}: training "
                    "images come from there, and validation images where there are none"
                )
            return None
        labels = [label_of(row.cells[1], self.classes, f"{row.place} of '{self.table}'") for row in rows]
        paths = [self._path(row) for row in rows]
        present = set(labels)
        missing = [name for label, name in enumerate(self.classes) if label not in present]
        if missing and self.listed_classes is None:
            named = f"{', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}"
            rank_zero_warn(
                f"{len(missing)} of {self.num_classes} classes have no {split} image in '{self.table}': {named}"
            )
        files = ImageFiles([str(path) for path in paths], torch.tensor(labels, dtype=torch.int64))
        if self.image_size is None:
            height, width = files.read(0).shape[-2:]
            files.size = (height, width)
        files.names = [row.cells[0] for row in rows]
        return files

    @cached_property
    def _rows(self) -> list[TableRow]:
        """The rows, none of which is a second one of an image, or of an unknown split."""
        try:
            rows = read_rows(self.table, self.columns)
        except FileNotFoundError as error:
            raise UserError(
                f"there is no table of images at '{self.table}': give a CSV or Parquet file with the columns "
                f"{', '.join(self.columns)}"
            ) from error
        if not rows:
            raise UserError(f"the table '{self.table}' has no rows: give one for each image")
        seen: dict[str, TableRow] = {}
        for row in rows:
            where = f"{row.place} of '{self.table}'"
            for name, cell in zip(self.columns, row.cells, strict=True):
                if not cell:
                    raise UserError(f"{where} has no {name}: give each image its {' and '.join(self.columns)}")
            if self._split_of(row) not in self._known_splits:
                raise UserError(
                    f"{where} has the split '{row.cells[2]}', but splits are {', '.join(self._known_splits)}: name "
                    "others by train_split, val_split and test_split"
                )
            first = seen.setdefault(os.path.normpath(self.root / row.cells[0]), row)
            if first is not row:
                raise UserError(
                    f"{where} has the image '{row.cells[0]}', which {first.place} has already: an image has one row"
                )
        return rows

    @property
    def _known_splits(self) -> list[str]:
        return list(self.split_names.values())

    def _split_of(self, row: TableRow) -> str:
        return row.cells[2] if len(row.cells) > 2 else self.split_names["test"]

    def _path(self, row: TableRow) -> Path:
        path = named_path(self.root, row.cells[0])
        if not path.is_file():
            raise UserError(
                f"{row.place} of '{self.table}' has the image '{row.cells[0]}', which is not in '{self.root}': give "
                "root, the folder that paths are relative to"
            )
        return path
