"""The image of a new concept: read, cut to a box, and brought to the size of the images that it is put into."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from editable.data.concepts.manipulation import fit_texture
from editable.data.images.reader import read_image
from editable.errors import UserError, require_side

__all__ = ["Placement", "place_texture", "read_texture"]

Placement = Literal["texture", "image", "mask"]
"""``texture``: cut or tiled at its own scale; ``image``: resized to the whole image; ``mask``: to the mask's extent."""


def read_texture(path: str | Path, box: Sequence[int] | None = None, size: int | None = None) -> Tensor:
    """Read the image of a new concept.

    Args:
        path: The image file.
        box: The part of it to use, in pixels of the stored image: left, top, right, bottom; ``None``: all.
        size: Length of the shorter side of this part, in pixels, to resize to; ``None``: as stored.

    Returns:
        The texture, float32 ``[3, h, w]`` in [0, 1].

    Raises:
        UserError: There is no such file, the box is not inside the image, or the size is below 1.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"The texture {path} does not exist: expected an image file of the new concept.")
    require_side(texture_size=size)
    texture = read_image(path)
    if box is not None:
        texture = _cut(texture, box, path)
    if size is not None:
        texture = functional.resize(texture, [size])
    return functional.to_dtype(texture, torch.float32, scale=True)


def place_texture(texture: Tensor, mask: Tensor, placement: Placement, seed: int) -> Tensor:
    """Bring a texture to the size of an image.

    Args:
        texture: ``[C, h, w]``.
        mask: Where it will be seen, ``[H, W]``, not all 0.
        placement: ``texture``: a part of it drawn by seed, or tiled, see
            :func:`~editable.data.fit_texture`; ``image``: resized so that it covers the image, its centre
            cut out; ``mask``: resized to the smallest box that holds the mask.
        seed: Seed of the part, ≥ 0.

    Returns:
        ``[C, H, W]``; 0 where nothing of it is to be seen.
    """
    height, width = mask.shape
    if placement == "texture":
        return fit_texture(texture, (height, width), seed)
    if placement == "image":
        scale = max(height / texture.shape[1], width / texture.shape[2])
        covering = [ceil(round(scale * side, 6)) for side in texture.shape[1:]]
        return functional.center_crop(functional.resize(texture, covering), [height, width])
    rows, columns = (mask.any(dim=dim).nonzero() for dim in (1, 0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    placed = texture.new_zeros(len(texture), height, width)
    placed[:, top:bottom, left:right] = functional.resize(texture, [bottom - top, right - left])
    return placed


def _cut(texture: Tensor, box: Sequence[int], path: Path) -> Tensor:
    height, width = texture.shape[1:]
    if len(box) != 4 or not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
        raise UserError(
            f"texture_box is {list(box)}, but must be left, top, right and bottom of a part of {path}, which is "
            f"{width} pixels wide and {height} high."
        )
    left, top, right, bottom = box
    return texture[:, top:bottom, left:right]
