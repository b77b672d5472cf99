"""Classes by name or number: the one place where what a user typed is looked up among the names of classes."""

from collections.abc import Sequence
from difflib import get_close_matches
from itertools import zip_longest
from unicodedata import normalize

import torch
from torch import Tensor

from editable.errors import UserError

__all__ = ["check_same_classes", "class_labels", "class_numbers", "find_class", "near_names"]


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


def check_same_classes(made_for: object, classes: Sequence[str], what: str, otherwise: str) -> None:
    """Refuse what was made for other classes, or for the same in another order, where each label means another thing.

    Args:
        made_for: Names of all classes that something was made for; the position is the label.
        classes: Those of the data.
        what: It was made for them, for the message: ``the checkpoint``.
        otherwise: What to do, for the message.

    Raises:
        UserError: If they are not the same; it names the first that differs. Composed and decomposed letters are one.
    """
    if not isinstance(made_for, list) or not all(isinstance(name, str) for name in made_for):
        raise UserError(f"{what} is damaged: its class names are no list of names")
    for label, (there, here) in enumerate(zip_longest(made_for, classes)):
        if there is None or here is None:
            raise UserError(
                f"{what} was made for {len(made_for)} classes and the data have {len(classes)}, the first more is "
                f"class {label}, '{there or here}': {otherwise}"
            )
        if normalize("NFC", there) != normalize("NFC", here):
            raise UserError(
                f"{what} was made for other classes than those of the data: class {label} is '{there}' there and "
                f"'{here}' in the data: {otherwise}"
            )
