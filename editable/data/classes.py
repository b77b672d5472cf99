"""Classes by name or number: the one place where what a user typed is looked up among the names of classes."""

from collections.abc import Sequence
from difflib import get_close_matches

import torch
from torch import Tensor

from editable.errors import UserError

__all__ = ["class_labels", "class_numbers", "find_class", "near_names"]


def find_class(asked: int | str, classes: Sequence[str]) -> int | None:
    """Return the label of a class that is asked for by its name or, where no class has that name, by its number.

    Args:
        asked: As it was typed.
        classes: Names of all classes; the position is the label.

    Returns:
        The label; none where there is no such class.
    """
    name = str(asked)
    if name in classes:
        return list(classes).index(name)
    return int(name) if name.isdecimal() and int(name) < len(classes) else None


def near_names(asked: int | str, classes: Sequence[str]) -> str:
    """Return the names that may have been meant, or the first ones, as they stand in a message."""
    near = get_close_matches(str(asked), classes, n=3)
    return f"near names are {', '.join(near)}" if near else f"they begin with {', '.join(classes[:3])}"


def class_numbers(asked: Sequence[int | str], classes: Sequence[str], option: str) -> list[int]:
    """Return the labels of some classes, each by name or number.

    Args:
        asked: The classes that are wanted.
        classes: Names of all classes; the position is the label.
        option: Where they were given, for the message.

    Raises:
        UserError: If none is asked for, one is none of the classes, or one is given twice.
    """
    if not asked:
        raise UserError(f"{option} is empty: name at least one class")
    labels: list[int] = []
    for name in asked:
        label = find_class(name, classes)
        if label is None:
            raise UserError(
                f"{option} has '{name}', which is none of the {len(classes)} classes of the data: "
                f"{near_names(name, classes)}"
            )
        if label in labels:
            raise UserError(f"{option} has '{classes[label]}' twice: each class can be named once")
        labels.append(label)
    return labels


def class_labels(class_names: Sequence[str], classes: Sequence[str], images: Sequence[str]) -> Tensor:
    """Return the label of each image, whose class is the name of its folder and never a number.

    Args:
        class_names: The class of each image.
        classes: Names of all classes; the position is the label.
        images: Name of each image, for the message.

    Returns:
        Labels, int64 ``[n]``.

    Raises:
        UserError: If an image's class is none of the classes.
    """
    position = {name: label for label, name in enumerate(classes)}
    for name, image in zip(class_names, images, strict=True):
        if name not in position:
            raise UserError(
                f"The class of the image {image} is {name!r} (its folder), which is none of the {len(classes)} classes "
                f"of the data: {near_names(name, classes)}."
            )
    return torch.tensor([position[name] for name in class_names], dtype=torch.int64)
