"""What an edit is asked for, as people have it: pictures, paths, arrays or tensors, and classes by name or number."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from editable.calls.judge import Transform
from editable.data.classes import find_class, near_names
from editable.data.images.reader import pixels_of, read_image
from editable.errors import UserError

__all__ = ["image_batch", "label_batch"]


def image_batch(images: Any, transform: Transform | None) -> Tensor:
    """Return images as the network gets them, [N, C, H, W].

    Args:
        images: One or several. Floating-point tensors and arrays, [C, H, W] or [N, C, H, W], are taken as they are.
            Paths of files, PIL images and levels from 0 to 255 (uint8; arrays [H, W] or [H, W, 3], tensors [C, H, W])
            are pictures, which the transform gets.
        transform: Makes of a picture, a PIL image in RGB or, where it takes only tensors, uint8 [3, H, W], what the
            network gets.

    Raises:
        UserError: If there is none, one cannot be read, sizes differ, or a picture has no transform.
    """
    whole = isinstance(images, Tensor | np.ndarray) and images.ndim == 4
    several = whole or (isinstance(images, Sequence) and not isinstance(images, str))
    items = list(images) if several else [images]
    if not items:
        raise UserError("there is no image to edit")
    made = [_prepared(item, transform) for item in items]
    sizes = sorted({tuple(image.shape) for image in made})
    if len(sizes) > 1:
        shown = " and ".join("×".join(map(str, size)) for size in sizes[:2])
        raise UserError(f"images must have one size, as the network gets them, got {shown}: give a transform")
    return torch.stack(made)


def label_batch(labels: Any, num_images: int, classes: Sequence[str] | None) -> Tensor:
    """Return the label asked for of each image, int64 [N].

    Args:
        labels: Classes by name or number, one for each image or one for all.
        num_images: N.
        classes: Names of all classes by label, if they are known.

    Raises:
        UserError: If there is not one for each image, or one is no class.
    """
    if isinstance(labels, Tensor | np.ndarray):
        labels = labels.tolist()
    several = isinstance(labels, Sequence) and not isinstance(labels, str)
    asked = list(labels) if several else [labels] * num_images
    if len(asked) != num_images:
        raise UserError(f"there are {len(asked)} labels for {num_images} images: give one for each, or one for all")
    return torch.tensor([_label(one, classes) for one in asked])


def _label(asked: Any, classes: Sequence[str] | None) -> int:
    if isinstance(asked, str) and classes is None:
        raise UserError(f"'{asked}' is asked for by its name, but nobody knows the names of the classes: give classes")
    if isinstance(asked, str):
        label = find_class(asked, classes or [])
        if label is None:
            raise UserError(
                f"'{asked}' is none of the {len(classes or [])} classes: {near_names(asked, classes or [])}"
            )
        return label
    if isinstance(asked, bool) or not isinstance(asked, int | np.integer):
        raise UserError(f"a label is the name or the number of a class, got {asked!r}")
    if not 0 <= asked < 2**31:
        raise UserError(f"a label is the name or the number of a class, got {asked}")
    return int(asked)


def _prepared(item: Any, transform: Transform | None) -> Tensor:
    if isinstance(item, np.ndarray) and np.issubdtype(item.dtype, np.floating):
        item = torch.from_numpy(np.ascontiguousarray(item))
    if isinstance(item, Tensor) and item.is_floating_point():
        if item.ndim != 3:
            raise UserError(f"an image is [channels, height, width], got a tensor of shape {list(item.shape)}")
        return item.detach().cpu().float()
    pixels = _pixels(item)
    if transform is None:
        raise UserError(
            "images are given as pictures, but nobody knows what the network gets of one: give transform, which makes "
            "a tensor of a PIL image, or tensors"
        )
    picture = functional.to_pil_image(pixels)
    try:
        made = transform(picture)
    except (TypeError, AttributeError):  # one of tensors alone
        made = transform(pixels)
    if not isinstance(made, Tensor) or made.ndim != 3 or not made.is_floating_point():
        got = f"{made.dtype} {list(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise UserError(f"transform must give images as floating-point numbers [channels, height, width], got {got}")
    return made


def _pixels(item: Any) -> Tensor:
    """Return a picture's levels, uint8 [3, H, W]."""
    if isinstance(item, str | Path):
        return read_image(item)
    if isinstance(item, np.ndarray) and item.dtype == np.uint8 and (item.ndim == 2 or item.shape[2:] == (3,)):
        item = Image.fromarray(item)
    if isinstance(item, Tensor) and item.dtype == torch.uint8 and item.ndim == 3 and len(item) in (1, 3):
        return item.expand(3, -1, -1)
    if isinstance(item, Image.Image):
        return pixels_of(item, "given")
    got = f"{item.dtype} {list(item.shape)}" if isinstance(item, Tensor | np.ndarray) else type(item).__name__
    raise UserError(
        f"an image is a path, a PIL image, levels (uint8, an array [height, width, 3] or a tensor [3, height, width]) "
        f"or what the network gets, floating-point [channels, height, width], got {got}"
    )
