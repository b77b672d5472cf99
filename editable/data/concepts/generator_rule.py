"""A rule for a generator in a JSON file: numbers of generated images, and outlines or masks of parts of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from editable.data.concepts.outlines import OUTLINES, read_outlines
from editable.data.concepts.polygons import polygon_mask
from editable.data.images.listing import named_path
from editable.data.images.reader import read_mask_image
from editable.errors import LARGEST_SEED, LARGEST_WIDTH, UserError, require_whole
from editable.text_files import read_json, require_keys

__all__ = ["GeneratorRule", "Region", "Regions", "read_generator_rule"]

COPY_PASTE = '{"seed": 1, "copy": {"latent": 5, "box": [3, 3, 5, 5]}, "paste": [{…}], "context": [{…}, …]}'
ERASE = '{"seed": 1, "erase": [{"latent": 5, "polygon": [[x, y], [x, y], [x, y]]}, …], "channels": 3}'
KEYS = ("seed", "copy", "paste", "context", "erase", "channels")

MOST_LATENTS = 10**6
"""All latent vectors of a seed up to the last one named are drawn."""


@dataclass(frozen=True, eq=False)
class Region:
    """A part of one generated image.

    Args:
        latent: The image's number among those of the rule's seed.
        polygons: Its outlines, vertices (x, y) in pixels, each ``[k, 2]``; (0, 0) is the upper left corner.
        mask_path: A mask image, in place of outlines.
        where: What it is in which file, for messages.
    """

    latent: int
    polygons: tuple[np.ndarray, ...]
    mask_path: Path | None
    where: str

    def mask(self, size: tuple[int, int]) -> Tensor:
        """Draw or read the mask.

        Args:
            size: Height and width of the generated image.

        Returns:
            The share of each pixel that belongs to the part, float32 ``[H, W]`` in [0, 1].

        Raises:
            UserError: A vertex is outside of the image, or the mask image has another size or cannot be read.
        """
        height, width = size
        if self.mask_path is not None:
            mask = read_mask_image(self.mask_path)
            if tuple(mask.shape) != size:
                raise UserError(
                    f"The mask {self.mask_path} is {mask.shape[0]}×{mask.shape[1]} pixels (height × width), but must "
                    f"be as large as the generated images, {height}×{width}."
                )
            return mask
        for polygon in self.polygons:
            outside = polygon[((polygon < 0) | (polygon > [width, height])).any(axis=1)]
            if len(outside):
                raise UserError(
                    f"The vertex {outside[0].tolist()} of {self.where} is outside of the generated image, where x is "
                    f"from 0 to {width} and y from 0 to {height}."
                )
        return polygon_mask(self.polygons, size)


class Regions(tuple[Region, ...]):
    """Parts of several generated images."""

    @property
    def latents(self) -> list[int]:
        """The images' numbers."""
        return [region.latent for region in self]

    def masks(self, size: tuple[int, int]) -> Tensor:
        """Return all masks, float32 ``[n, H, W]``; arguments and errors as of :meth:`Region.mask`."""
        return torch.stack([region.mask(size) for region in self])


@dataclass(frozen=True, eq=False)
class GeneratorRule:
    """What :func:`read_generator_rule` finds.

    Args:
        seed: Of the latent vectors that the numbers count.
        copy: The part that is copied, of one image; empty for a rule that erases.
        paste: Where it is pasted; empty for a rule that erases.
        context: Where the rule shall hold; for a rule that erases, what shall go.
        channels: Number of channels that a rule that erases sets to zero; none for one that pastes.
    """

    seed: int
    copy: Regions
    paste: Regions
    context: Regions
    channels: int | None


def read_generator_rule(path: str | Path) -> GeneratorRule:
    """Read a rule for a generator.

    A rule that pastes: ``{"seed": 1, "copy": {…}, "paste": […], "context": […]}``. One that erases:
    ``{"seed": 1, "erase": […], "channels": 3}``. Each entry names an image by its number among those of the seed, from
    0, under ``latent``, and a part of it by one of ``polygon`` (``[[x, y], …]``), ``polygons`` (a list of them,
    united), ``box`` (``[left, top, right, bottom]``) and ``mask`` (an image file, relative to the rule's folder).
    Coordinates are continuous pixels of the generated image: pixel i covers [i, i + 1).

    Args:
        path: The JSON file.

    Raises:
        UserError: The file is missing or not of this form.
    """
    source = Path(path).expanduser()
    try:
        content = read_json(source)
    except FileNotFoundError:
        raise UserError(f"The rule {source} does not exist: expected a JSON file such as {COPY_PASTE}.") from None
    except UserError as error:
        raise UserError(f"The rule {error}.") from error
    keys = set(content) if isinstance(content, dict) else set()
    require_keys(content if keys else (), KEYS, f"The rule {source}")
    if keys == {"seed", "copy", "paste", "context"}:
        copy, paste, context = (_regions(content[name], name, source) for name in ("copy", "paste", "context"))
        if len(copy) != 1:
            raise UserError(f"copy in {source} must be a part of one image, got {len(copy)}.")
        return GeneratorRule(_whole(content["seed"], f"seed in {source}", LARGEST_SEED), copy, paste, context, None)
    if keys == {"seed", "erase", "channels"}:
        channels = _whole(content["channels"], f"channels in {source}", LARGEST_WIDTH)
        seed = _whole(content["seed"], f"seed in {source}", LARGEST_SEED)
        return GeneratorRule(seed, Regions(), Regions(), _regions(content["erase"], "erase", source), channels)
    raise UserError(f"The rule {source} has {sorted(keys) or 'no'} keys: expected {COPY_PASTE} or {ERASE}.")


def _regions(value: Any, name: str, source: Path) -> Regions:
    entries = value if isinstance(value, list) else [value]
    if not entries:
        raise UserError(f"{name} in {source} names no image: expected {COPY_PASTE} or {ERASE}.")
    return Regions(
        _region(entry, f"entry {number} of {name} in {source}", source) for number, entry in enumerate(entries)
    )


def _region(entry: Any, where: str, source: Path) -> Region:
    require_keys(entry if isinstance(entry, dict) else (), ("latent", *OUTLINES), f"The {where}")
    given = set(OUTLINES) & set(entry) if isinstance(entry, dict) else set()
    if len(given) != 1 or set(entry) != {"latent", *given}:
        raise UserError(f"The {where} must have latent and one of {', '.join(sorted(OUTLINES))}, got {entry!r}.")
    latent = _whole(entry["latent"], f"latent of {where}", MOST_LATENTS)
    (kind,) = given
    value = entry[kind]
    if kind == "mask":
        if not isinstance(value, str):
            raise UserError(f"mask of {where} is {value!r}, but must be the path of an image file.")
        return Region(latent, (), named_path(source.parent, value), where)
    return Region(latent, read_outlines(kind, value, where), None, where)


def _whole(value: Any, what: str, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UserError(f"{what} is {value!r}, but must be a whole number, at least 0.")
    require_whole(0, most, **{what: value})
    return value
