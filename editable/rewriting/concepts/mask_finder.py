"""A concept found by masks that somebody has made: outlines, mask images or COCO annotations."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import torch
from torch import Tensor

from editable.data.classes import name_key
from editable.data.concepts.masked_image import MaskedImage
from editable.data.concepts.masks import read_masks
from editable.data.images.frame import Frame
from editable.data.images.reader import read_size
from editable.errors import UserError
from editable.rewriting.concepts.concept_finder import ConceptFinder

__all__ = ["MaskFinder"]


class MaskFinder(ConceptFinder):
    """Finds a concept where masks say that it is; images without a mask do not show it.

    A mask belongs to the image of the same name, where the masks may name further folders above it: the mask of
    ``samples/cat/1.jpg`` is that of ``cat/1.jpg``.

    Args:
        masks: A JSON file of outlines, a folder of mask images, or COCO annotations, see
            :func:`~editable.data.read_masks`.
        root: The folder that image names in the masks are relative to; null: the folder of the masks file.
        category: Name of the category in COCO annotations.
        image_size: Side, or height and width, in pixels, of the images that are looked at; null: as the masks file
            says, or else the stored size.
        resize_size: Likewise of what the image is resized to cover, before the centre crop; null: image_size.

    Raises:
        UserError: If the masks cannot be read, or an image that they name is missing.
    """

    def __init__(
        self,
        masks: str,
        root: str | None = None,
        category: str | None = None,
        image_size: int | Sequence[int] | None = None,
        resize_size: int | Sequence[int] | None = None,
    ) -> None:
        found = read_masks(masks, root, category)
        own_frame = image_size is not None or resize_size is not None
        self.frame = Frame(image_size, resize_size) if own_frame else found.frame
        self.settings = {
            "masks": masks,
            "root": root,
            "category": category,
            "image_size": self.frame.image_size,
            "resize_size": self.frame.resize_size,
        }
        self.files = [file for image in found.images for file in image.files]
        self._by_file: dict[str, list[MaskedImage]] = {}
        for image in found.images:
            self._by_file.setdefault(name_key(PurePosixPath(image.name).name), []).append(image)

    @property
    def description(self) -> str:
        """Where masks come from."""
        return str(self.settings["masks"])

    def check(self, names: Sequence[str], size: tuple[int, int]) -> None:
        """Draw the mask of each image once, see :meth:`ConceptFinder.check`."""
        for name in names:
            owner = self._owner(name)
            if owner is not None:
                self._draw(owner, size)

    def find(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Draw the masks of those images that have one, see :meth:`ConceptFinder.find`.

        Raises:
            UserError: If a mask does not fit its image, or several belong to one.
        """
        masks = images.new_zeros(len(images), *images.shape[-2:])
        for mask, name in zip(masks, names, strict=True):
            owner = self._owner(name)
            if owner is not None:
                mask.copy_(self._draw(owner, (images.shape[-2], images.shape[-1])))
        return masks

    def _owner(self, name: str) -> MaskedImage | None:
        """Return what the masks say of an image, if they have it."""
        here, key = self._by_file.get(name_key(PurePosixPath(name).name), []), name_key(name)
        found = [image for image in here if f"/{name_key(image.name)}".endswith(f"/{key}")]
        if len(found) > 1:
            there = " and ".join(image.name for image in found[:2])
            raise UserError(f"the image {name} has several masks in {found[0].mask_source}, those of {there}")
        return found[0] if found else None

    def _draw(self, image: MaskedImage, size: tuple[int, int]) -> Tensor:
        mask = image.draw(read_size(image.path), self.frame)
        if tuple(mask.shape) != size:
            raise UserError(
                f"the mask of {image.name} is {mask.shape[0]}×{mask.shape[1]} pixels (height × width), the images are "
                f"{size[0]}×{size[1]}: give the masks the data module's image_size and resize_size"
            )
        return torch.as_tensor(mask)
