"""Which label a name or number stands for, with a list of classes or without."""

from collections.abc import Sequence

from editable.data.classes import find_class, near_names
from editable.errors import LARGEST_WIDTH, UserError

__all__ = ["classes_of", "label_of"]


def classes_of(names: Sequence[str], source: str) -> list[str]:
    """Return the classes of data that have no list of them, by label.

    Args:
        names: What the data call the class of each image.
        source: Of the data, for the message.

    Returns:
        The names in alphabetical order; where all are whole numbers, which are then the labels, ``"0"`` to the largest.

    Raises:
        UserError: If there are none, or a number is too large for a label.
    """
    if not names:
        raise UserError(f"{source} has no images, and so no classes")
    if all(name.isascii() and name.isdecimal() for name in names):
        largest = max(map(int, names))
        if largest >= LARGEST_WIDTH:
            raise UserError(
                f"{source} has the label {largest}, but labels are below {LARGEST_WIDTH}: number them from 0"
            )
        return [str(label) for label in range(largest + 1)]
    return sorted(set(names))


def label_of(name: str, classes: Sequence[str], where: str) -> int:
    """Return the label of a class by its name or, where no class has that name, its number.

    Args:
        name: As the data have it.
        classes: All classes; the position is the label.
        where: What has it, for the message: ``line 3 of 'table.csv'``.

    Raises:
        UserError: If it is none of the classes.
    """
    label = find_class(name, classes)
    if label is None:
        raise UserError(
            f"{where} has the label '{name}', which is none of the {len(classes)} classes: {near_names(name, classes)}"
        )
    return label
