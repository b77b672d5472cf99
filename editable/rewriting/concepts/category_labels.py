"""The categories that a detector knows, by name or number."""

from collections.abc import Sequence

from torchvision.models import get_weight

from editable.data.classes import ClassName, ClassNames, find_class, named_classes, near_names
from editable.errors import UserError

__all__ = ["category_labels", "known_categories"]


def known_categories(categories: Sequence[ClassName | None] | str | None) -> list[str] | None:
    """Return the names of a detector's categories by label.

    Args:
        categories: The names; or the full name of torchvision's weights, such as
            ``MaskRCNN_ResNet50_FPN_Weights.COCO_V1``, which know theirs (nothing is downloaded for that); or None where
            they are not known.

    Raises:
        UserError: If torchvision has no such weights, or they name no categories.
    """
    if not isinstance(categories, str):
        return None if categories is None else named_classes(categories)
    try:
        return list(get_weight(categories).meta["categories"])
    except (ValueError, KeyError) as error:
        raise UserError(
            f"categories is {categories!r}, but must be a list of names, or torchvision weights that know theirs, such "
            "as MaskRCNN_ResNet50_FPN_Weights.COCO_V1"
        ) from error


def category_labels(labels: ClassNames, categories: Sequence[str] | None) -> list[int]:
    """Return the labels of categories that are given by name or number.

    Args:
        labels: Names and numbers.
        categories: Names of all categories by label; None where they are not known.

    Raises:
        UserError: If there is none, or one is not among the categories.
    """
    names = named_classes(labels)
    if not names:
        raise UserError("labels is empty: name at least one category to look for")
    return [_number(name, categories) for name in names]


def _number(label: str, categories: Sequence[str] | None) -> int:
    if categories is None:
        if label.removeprefix("-").isdecimal() and int(label) < 0:
            raise UserError(f"labels are numbers from 0, got {label}")
        if not label.isdecimal():
            raise UserError(
                f"the detector's categories are not known, so {label!r} cannot be looked up: set categories"
            )
        return int(label)
    number = find_class(label, categories)
    if number is None:
        raise UserError(
            f"the detector has no category {label!r} among its {len(categories)}: {near_names(label, categories)}"
        )
    return number
