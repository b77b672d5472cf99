"""Edits that a user has written down: a table of images with the labels that they shall get."""

import copy
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from editable.data.classes import find_class, name_key, near_names
from editable.data.edits.edit_streams import Edits, EditStream
from editable.data.modules.image_data_module import EvaluationImages
from editable.data.modules.image_names import image_names
from editable.data.table_rows import read_rows
from editable.errors import UserError

__all__ = ["TableEdits", "read_edit_rows"]

COLUMNS = ("image", "label")


class EditRow(NamedTuple):
    """What stands in a line: the image and its label as they were written, and where that is: ``line 3``."""

    image: str
    label: str
    place: str


class TableEdits(EditStream):
    """Images and labels from a table, in its order: ``image,label`` in its first line, then a line for each edit.

    An image is given by its name (``<class>/<file>``), by its file or, where none has that name, by its position in the
    data set, from 0; a label by the name of a class or, where no class has that name, its number. Further columns and
    empty lines are passed over. Names and commas in quotes, either line ending, a byte order mark, and accents in
    either of Unicode's ways are read. Metrics are named ``table_drawdown``, ``table_success_rate`` and so on.

    Args:
        table: The file: CSV in UTF-8, or Parquet.

    Raises:
        UserError: If the file cannot be read, has not these columns or no line; once it is bound, if an image or a
            class is not there, or an image shall get two labels.
    """

    metric_prefix = "table_"
    anywhere = True

    def __init__(self, table: str) -> None:
        self.table = table
        self._rows = read_edit_rows(table)
        self._edits: Edits | None = None

    def bind(self, images: Dataset, classes: Sequence[str] | None) -> "TableEdits":
        """Look up images and classes; see :meth:`EditStream.bind`."""
        if classes is None:
            raise UserError(f"the table '{self.table}' needs a data module that knows its classes and images")
        find = _ImageFinder(images)
        lines: dict[int, EditRow] = {}
        labels: dict[int, int] = {}
        num_again = 0
        for row in self._rows:
            index, label = find(row.image), find_class(row.label, classes)
            if index is None:
                raise UserError(f"{row.place} of '{self.table}' has the image '{row.image}', {find.what_is_there()}")
            if label is None:
                raise UserError(
                    f"{row.place} of '{self.table}' has the label '{row.label}', which is none of the "
                    f"{len(classes)} classes of the data, and no number of one: {near_names(row.label, classes)}"
                )
            if labels.setdefault(index, label) != label:
                raise UserError(
                    f"{row.place} of '{self.table}' asks for '{row.label}' of the image '{row.image}', of which "
                    f"{lines[index].place} asks for '{lines[index].label}': an image can get one label"
                )
            num_again += index in lines
            lines.setdefault(index, row)
        if num_again:
            warnings.warn(
                f"'{self.table}' asks for {num_again} edits twice, of the same image with the same label: each is made "
                "once",
                UserWarning,
                stacklevel=2,
            )
        bound = copy.copy(self)
        bound._edits = Edits(torch.tensor(list(labels)), torch.tensor(list(labels.values())))
        return bound

    def __call__(self, labels: Tensor, predictions: Tensor, num_classes: int, num_edits: int | None = None) -> Edits:
        """Return the first ``num_edits`` of the table, or all where it has no more; see :meth:`EditStream.__call__`."""
        if self._edits is None:
            raise UserError(f"the table '{self.table}' is not bound to images yet: call bind(images, classes) first")
        if num_edits is not None and num_edits < 1:
            raise UserError(f"num_edits is {num_edits}, but must be at least 1")
        edits = Edits(*(some[:num_edits] for some in self._edits))
        if int(edits.indices.max()) >= len(labels) or int(edits.labels.max()) >= num_classes:
            raise UserError(
                f"the table '{self.table}' is of other images: it was bound to more than these {len(labels)} images of "
                f"{num_classes} classes"
            )
        return edits


class _ImageFinder:
    """Finds an image by its name, its file or its position."""

    def __init__(self, images: Dataset) -> None:
        self._names = image_names(images)
        self._exact = {name: index for index, name in enumerate(self._names)}
        self._keys = {name_key(name): index for index, name in enumerate(self._names)}
        self._paths = {os.path.abspath(path): index for index, path in enumerate(_paths_of(images))}

    def __call__(self, asked: str) -> int | None:
        for places, name in (
            (self._exact, asked),
            (self._keys, name_key(asked)),
            (self._paths, os.path.abspath(asked)),
        ):
            if name in places:
                return places[name]
        if asked.isascii() and asked.isdecimal() and len(asked) < 10 and int(asked) < len(self._names):
            return int(asked)
        return None

    def what_is_there(self) -> str:
        number = len(self._names)
        return (
            f"which is none of the {number} images: give a position, 0 … {number - 1}, or a name such as "
            f"'{self._names[0]}'"
        )


def _paths_of(images: Dataset) -> list[str]:
    """Return the files of images; none where they are of none."""
    if isinstance(images, EvaluationImages):
        return _paths_of(images.images)
    if isinstance(images, Subset):
        paths = _paths_of(images.dataset)
        return [paths[index] for index in images.indices] if paths else []
    return [str(path) for path in getattr(images, "paths", None) or ()]


def read_edit_rows(table: str) -> list[EditRow]:
    """Read the lines of a table, without a look at what they name."""
    if not table or not os.path.lexists(Path(table)):
        raise UserError(f"there is no table of edits at '{table}': give a CSV file with the columns image and label")
    rows = [EditRow(image, label, place) for (image, label), place in read_rows(table, COLUMNS)]
    for row in rows:
        for name, cell in zip(COLUMNS, row, strict=False):
            if not cell:
                raise UserError(f"{row.place} of '{table}' has no {name}: give an image and its label")
    if not rows:
        raise UserError(f"the table '{table}' has no edits: give a line for each, below the first with image,label")
    return rows
