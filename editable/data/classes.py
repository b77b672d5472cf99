"""Classes by name or number: the one place where what a user typed is looked up among the names of classes."""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import zip_longest
from typing import TypeAlias
from unicodedata import normalize

import torch
from torch import Tensor

from editable.errors import UserError

__all__ = [
    "NOTHING",
    "ClassName",
    "ClassNames",
    "check_same_classes",
    "class_labels",
    "class_numbers",
    "find_class",
    "is_none",
    "name_key",
    "name_text",
    "named_classes",
    "near_names",
]

ClassName: TypeAlias = str | int | float | bool
"""A class as it was typed: a name is text, but in a YAML file 7 is a number and true is none of both."""

ClassNames: TypeAlias = list[ClassName | None] | ClassName
"""Several of them; one alone is a list of one."""


NOTHING = ("null", "Null", "NULL", "~")
"""What YAML takes for nothing, and what may be the name of a class."""


def name_text(asked: ClassName | None) -> str:
    """Return what was typed as text: ``null`` for None, ``true`` for True, figures as they are."""
    return asked if isinstance(asked, str) else json.dumps(asked)


def name_key(name: str) -> str:
    """Return what two spellings of a name have in common: an accent is the same as a part of its letter or behind it.

    That is Unicode's normal form C; some file systems store folder names in form D.
    """
    return normalize("NFC", name)


def named_classes(asked: Sequence[ClassName | None] | ClassName) -> list[str]:
    """Return the text of one or several classes that are asked for."""
    several = isinstance(asked, Sequence) and not isinstance(asked, str)
    return [name_text(some) for some in asked] if several else [name_text(asked)]  # type: ignore[union-attr, arg-type]


def find_class(asked: ClassName | None, classes: Sequence[str]) -> int | None:
    """Return the label of a class that is asked for by its name or, where no class has that name, by its number.

    Args:
        asked: As it was typed, also in quotes.
        classes: Names of all classes; the position is the label.

    Returns:
        The label; none where there is no such class.
    """
    text = name_text(asked)
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    names = [name_key(name) for name in classes]
    for name in (text, text[1:-1]) if quoted else (text,):
        if name in classes:  # before its other spellings
            return list(classes).index(name)
        if name_key(name) in names:
            return names.index(name_key(name))
    return int(text) if text.isdecimal() and len(text) < 10 and int(text) < len(classes) else None


def is_none(asked: Sequence[ClassName | None] | ClassName | None, classes: Sequence[str]) -> bool:
    """Return whether no class is asked for: by ``null``, which on the command line may be the name of a class."""
    if asked is None:
        return True
    names = named_classes(asked)
    return len(names) == 1 and names[0].strip("'\"") in NOTHING and find_class(names[0], classes) is None


def near_names(asked: ClassName | None, classes: Sequence[str]) -> str:
    """Return the names that may have been meant, or the first ones, as they stand in a message."""
    text = name_text(asked)
    begun = [name for name in classes if text and name_key(name).casefold().startswith(name_key(text).casefold())]
    near = begun[:3] or get_close_matches(text, classes, n=3)
    return f"near names are {', '.join(near)}" if near else f"they begin with {', '.join(classes[:3])}"


def class_numbers(asked: Sequence[ClassName | None] | ClassName, classes: Sequence[str], option: str) -> list[int]:
    """Return the labels of some classes, each by name or number.

    Args:
        asked: The classes that are wanted, or one.
        classes: Names of all classes; the position is the label.
        option: Where they were given, for the message.

    Raises:
        UserError: If none is asked for, one is none of the classes, or one is given twice.
    """
    names = named_classes(asked)
    if not names:
        raise UserError(f"{option} is empty: name at least one class")
    labels: list[int] = []
    for name in names:
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
    position = {name_key(name): label for label, name in enumerate(classes)}
    for name, image in zip(class_names, images, strict=True):
        if name_key(name) not in position:
            raise UserError(
                f"The class of the image {image} is {name!r} (its folder), which is none of the {len(classes)} classes "
                f"of the data: {near_names(name, classes)}."
            )
    return torch.tensor([position[name_key(name)] for name in class_names], dtype=torch.int64)


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
        if name_key(there) != name_key(here):
            raise UserError(
                f"{what} was made for other classes than those of the data: class {label} is '{there}' there and "
                f"'{here}' in the data: {otherwise}"
            )
