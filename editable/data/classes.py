"""Class names to class indices."""

from collections.abc import Sequence
from difflib import get_close_matches

import torch
from torch import Tensor

from editable.errors import UserError

__all__ = ["class_labels"]


def class_labels(class_names: Sequence[str], classes: Sequence[str], images: Sequence[str]) -> Tensor:
    """Return the index of each image's class.

    Args:
        class_names: the class of each image.
        classes: all classes; the position is the label, as in ``ImageDataModule.classes``.
        images: name of each image, for the message.

    Returns:
        Labels, int64 ``[n]``.

    Raises:
        UserError: an image's class is none of the classes.
    """
    position = {name: label for label, name in enumerate(classes)}
    for name, image in zip(class_names, images, strict=True):
        if name not in position:
            near = get_close_matches(name, classes, n=3)
            hint = f"near names are {', '.join(near)}" if near else f"they begin with {', '.join(classes[:3])}"
            raise UserError(
                f"The class of the image {image} is {name!r} (its folder), which is none of the {len(classes)} classes "
                f"of the data: {hint}."
            )
    return torch.tensor([position[name] for name in class_names], dtype=torch.int64)
