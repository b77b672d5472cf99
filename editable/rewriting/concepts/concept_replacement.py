"""A concept in images replaced by another one: found, and covered with a texture, an image or what a stylizer makes."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import rgb_to_grayscale

from editable.data.concepts.concept_texture import Placement, place_texture, read_texture
from editable.data.concepts.manipulation import Blend, paste_image, shade
from editable.data.concepts.stylizer import stylized, stylizer_settings
from editable.errors import UserError, require_choice, require_seed, require_within
from editable.rewriting.concepts.concept_finder import ConceptFinder

__all__ = ["ConceptReplacement", "Replaced"]


class Replaced(NamedTuple):
    """Images with one concept in place of another.

    Attributes:
        images: In [0, 1], [N, C, H, W]; those that do not show the old concept are as they were.
        masks: Where it was, in [0, 1], [N, H, W]; all zero where it was not found.
        found: Whether it was found, bool [N].
    """

    images: Tensor
    masks: Tensor
    found: Tensor


class ConceptReplacement:
    """Replaces a concept in images by a texture or an image.

    What is random depends on the seed and an image's name alone, so that an image becomes the same in any batch.
    Outside of the mask, pixels stay exactly as they are.

    Args:
        finder: Finds the concept to be replaced.
        texture: An image of the new concept; null where a stylizer needs none.
        placement: texture: a part of it at its own scale, drawn by seed, or tiled where it is too small; image: resized
            to the whole image; mask: resized to the box around the mask.
        texture_box: The part of the texture's file to use, in its pixels: left, top, right, bottom; null uses all.
        texture_size: Length of the texture's shorter side, in pixels; null: as stored.
        blend: paste: the texture as it is; shading: the texture lit as the region that it covers.
        stylizer: In place of a blend, a function or callable class by its path, called with ``image`` [C, H, W] in
            [0, 1], ``texture`` [C, h, w] or None, ``mask`` [H, W] and ``seed``; of the image that it returns, what is
            inside the mask is taken.
        seed: Seed of what is random, 0 or more.
        min_share: Least part of an image that the mask must cover for the concept to count as found, from 0 to 1.

    Attributes:
        settings: All of this as plain values, for records.

    Raises:
        UserError: If there is no such texture, neither texture nor stylizer, or an argument is out of its range.
    """

    def __init__(
        self,
        finder: ConceptFinder,
        texture: str | None = None,
        placement: Placement = "texture",
        texture_box: list[int] | None = None,
        texture_size: int | None = None,
        blend: Blend = "paste",
        stylizer: Callable | None = None,
        seed: int = 0,
        min_share: float = 0.0,
    ) -> None:
        require_seed(seed=seed)
        require_within("[0, 1]", min_share=min_share)
        require_choice(Placement, placement=placement)
        require_choice(Blend, blend=blend)
        if texture is None and stylizer is None:
            raise UserError("there is nothing to put in the concept's place: name a texture, or a stylizer")
        if stylizer is not None and blend != "paste":
            raise UserError(f"blend is {blend!r}, but a stylizer takes its place: leave one of them out")
        self.finder, self.texture, self.blend, self.stylizer = finder, texture, blend, stylizer
        self.placement, self.seed, self.min_share = placement, seed, min_share
        self._texture = None if texture is None else read_texture(texture, texture_box, texture_size)
        self.settings: dict[str, Any] = {
            "finder": {"class": type(finder).__name__, **finder.settings},
            "texture": texture,
            "placement": placement,
            "texture_box": texture_box,
            "texture_size": texture_size,
            "blend": blend,
            "stylizer": None if stylizer is None else stylizer_settings(stylizer),
            "seed": seed,
            "min_share": min_share,
        }

    @property
    def description(self) -> str:
        """What takes the concept's place, in a few words for records."""
        return self.texture or str(self.settings["stylizer"]["name"])

    def seed_of(self, name: str) -> int:
        """Return the seed of one image's manipulation."""
        return crc32(f"{self.seed} {name}".encode())

    def __call__(self, images: Tensor, names: Sequence[str]) -> Replaced:
        """Replace the concept wherever it is found; the finder must have been prepared.

        Args:
            images: Floats in [0, 1], not normalised, [N, C, H, W].
            names: Their file names relative to the image folder, ``<class>/<file>``.

        Raises:
            UserError: If the finder cannot look at these images, or a stylizer returns no such image.
        """
        masks = self.finder.find(images, names)
        shares = masks.mean(dim=(1, 2))
        found = (shares > 0) & (shares >= self.min_share)
        masks = masks * found[:, None, None].to(masks)
        replaced = [
            self._replace(image, mask, self.seed_of(name)) if here else image
            for image, mask, name, here in zip(images, masks, names, found.tolist(), strict=True)
        ]
        return Replaced(torch.stack(replaced), masks, found)

    def _replace(self, image: Tensor, mask: Tensor, seed: int) -> Tensor:
        texture = self._texture_for(image)
        if self.stylizer is not None:
            return paste_image(image, stylized(self.stylizer, image, texture, mask, seed), mask)
        assert texture is not None, "the constructor demands it where there is no stylizer"
        placed = place_texture(texture, mask, self.placement, seed)
        if self.blend == "shading":
            placed = shade(placed, image, mask)
        return paste_image(image, placed, mask)

    def _texture_for(self, image: Tensor) -> Tensor | None:
        """Return the texture, in the image's channels."""
        if self._texture is None:
            return None
        same = len(image) == len(self._texture)
        return (self._texture if same else rgb_to_grayscale(self._texture)).to(image)
