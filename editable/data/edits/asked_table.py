"""A table of images with the labels asked for: files anywhere, or test images by name or position."""

from collections.abc import Sequence
from pathlib import Path

from editable.data.classes import name_key
from editable.data.edits.table_edits import read_edit_rows
from editable.errors import UserError

__all__ = ["read_asked_table"]


def read_asked_table(table: str, names: Sequence[str]) -> tuple[list[str | int], list[str]]:
    """Return what the lines of a table ask for.

    Args:
        table: CSV or Parquet with the columns image and label. An image is a file, below the current folder or the
            table's own; the name of a test image; or its position, from 0.
        names: Of the test images.

    Returns:
        Files and positions, and the label of each, as it stands there.

    Raises:
        UserError: If the table cannot be read, an image is not there, or one is asked for twice.
    """
    places = {name_key(name): position for position, name in enumerate(names)}
    images: list[str | int] = []
    labels: list[str] = []
    lines: dict[str | int, str] = {}
    for row in read_edit_rows(table):
        image = _found(row.image, Path(table).parent, places)
        if image is None:
            raise UserError(
                f"{row.place} of '{table}' has the image '{row.image}', which is no file, and none of the "
                f"{len(names)} test images: give a position, 0 … {len(names) - 1}, or a name such as '{names[0]}'"
            )
        if image in lines:
            raise UserError(f"{row.place} of '{table}' has the image '{row.image}' of {lines[image]} once more")
        lines[image] = row.place
        images.append(image)
        labels.append(row.label)
    return images, labels


def _found(asked: str, folder: Path, places: dict[str, int]) -> str | int | None:
    if name_key(asked) in places:
        return places[name_key(asked)]
    for path in (Path(asked), folder / asked):
        if path.is_file():
            return str(path)
    if asked.isascii() and asked.isdecimal() and len(asked) < 10 and int(asked) < len(places):
        return int(asked)
    return None
