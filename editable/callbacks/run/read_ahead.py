"""Files that a command will need late, read before its first long computation, so that a broken one ends it at once."""

from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from editable.data import ImageDataModule
from editable.data.modules.image_names import image_names
from editable.errors import UserError
from editable.rewriting.concepts.concept_finder import ConceptFinder

__all__ = ["read_all", "read_finders"]


def read_all(images: Dataset, data: ImageDataModule, what: str) -> None:
    """Read each of some images, and let go of it.

    Args:
        images: As the network takes them; an item begins with an image.
        data: The data module, whose images have the size that all must have.
        what: What they are called in messages: ``photograph``.

    Raises:
        UserError: An image cannot be read, or is of another size.
    """
    expected = list(data.image_shape)
    for position in range(len(images)):  # type: ignore[arg-type]
        size = list(torch.as_tensor(images[position][0]).shape)
        if size != expected:
            raise UserError(
                f"the {what} {position} is {size} (channels, height, width), the data module's images {expected}: set "
                "the data module's image_size"
            )


def read_finders(finders: Sequence[ConceptFinder], data: ImageDataModule) -> None:
    """Let finders read what they need of files for all test images.

    Raises:
        UserError: A file cannot be read, or a mask does not fit its image.
    """
    height, width = data.image_shape[-2:]
    for finder in finders:
        finder.check(image_names(data.test_dataset), (height, width))
