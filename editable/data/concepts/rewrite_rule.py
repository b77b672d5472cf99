"""One rule, "where you see A, behave as for B", as images: exemplars, where A would be, and what to put there."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, get_args
from zlib import crc32

import torch
from torch import Tensor
from torchvision.transforms import v2

from editable.data.classes import class_labels, name_key
from editable.data.concepts.manipulated_folder import ManipulatedImage, save_manipulated_folder
from editable.data.concepts.manipulation import Blend, fit_texture, paste_image, shade
from editable.data.concepts.masked_image import MaskedImage
from editable.data.concepts.masks import matching_images, read_masks
from editable.data.concepts.stylizer import stylized, stylizer_settings
from editable.data.images.frame import Frame
from editable.data.images.reader import read_image
from editable.errors import UserError, require_at_least, require_seed, require_side, require_whole

__all__ = ["RewriteRule", "RuleExemplar"]

MOST_COPIES = 10_000
"""Of one exemplar; all are held in memory."""


class RuleExemplar(NamedTuple):
    """One exemplar of a rule; all images are float32 ``[3, H, W]`` in [0, 1], not normalised."""

    original: Tensor
    """The image that shows concept B, which the network handles well."""

    manipulated: Tensor
    """The same image with the new concept A in B's place."""

    mask: Tensor
    """Where B is, float32 ``[H, W]`` in [0, 1]: the share of each pixel."""

    texture: Tensor
    """The whole image whose masked part is in the manipulated one: the texture, the variant, or what a stylizer makes.
    Its features are what the features route puts in B's place."""


class RewriteRule:
    """Exemplars of the rule "where you see A (the new concept), behave as for B (the one in the masks)".

    The masks say where B is. The new concept is a texture, pasted inside the masks, or variants: the images of A that
    correspond to the exemplars, made by hand; or stylizers draw it into the exemplars, such as a
    :class:`~editable.data.Watermark`. Images are resized and cropped as by
    :class:`~editable.data.ImageFolderDataModule` with the same two sizes, pixel for pixel; the caller normalises them.

    Files are looked up when the rule is made, and read when images are asked for: one exemplar by :meth:`read`, all by
    the properties. An exemplar's part of the texture depends on the seed and the exemplar's name alone, not on which
    others are held out.

    Source: Santurkar et al., "Editing a classifier by rewriting its prediction rules", 2021.

    Args:
        masks: where B is, and in which images: a JSON file of polygons, boxes or mask files, a folder of mask images,
            or COCO annotations; see :func:`~editable.data.read_masks`.
        texture: an image of A, cut or tiled by seed to the size of the exemplars.
        variants: in place of the texture, images of A of the exemplars' sizes: a folder with the same names, or the
            path by the exemplar's name.
        root: the folder that the exemplars' names are relative to; null: the folder of the masks file.
        category: name of the category in COCO annotations.
        image_size: side, or height and width, in pixels, of the images that the network gets; null: as the masks file
            says, or else the stored size, the same for all.
        resize_size: likewise of what the image is resized to cover, before the centre crop; null: image_size.
        blend: paste: the texture as it is; shading: the texture lit as the region that it covers.
        texture_size: length of the texture's shorter side, in pixels, before it is cut or tiled; null: as stored.
        seed: seed of the part of the texture that is cut, 0 or more.
        exemplars: positions of the exemplars to use, from 0 in the order of the masks, or how many of the first; null
            uses all.
        copies: how often each exemplar is used, every time with another part of the texture.
        stylizers: in place of the texture, what draws A into exemplars, taken in turn: functions or callable classes as
            the ``stylizer`` of :class:`~editable.rewriting.ConceptReplacement`; inside the masks their image is taken.

    Raises:
        UserError: an argument is out of range, the masks cannot be read, or a file is missing.
    """

    def __init__(
        self,
        masks: str,
        texture: str | None = None,
        variants: str | dict[str, str] | None = None,
        root: str | None = None,
        category: str | None = None,
        image_size: int | Sequence[int] | None = None,
        resize_size: int | Sequence[int] | None = None,
        blend: Blend = "paste",
        texture_size: int | None = None,
        seed: int = 0,
        exemplars: int | list[int] | None = None,
        copies: int = 1,
        stylizers: list[Callable] | None = None,
    ) -> None:
        require_seed(seed=seed)
        require_whole(1, MOST_COPIES, copies=copies)
        require_side(texture_size=texture_size)
        if variants is not None and copies > 1:
            raise UserError(f"copies is {copies}, but there is one variant of each exemplar: leave copies out.")
        _check_new_concept(texture, variants, stylizers, blend, texture_size)
        self.settings: dict[str, Any] = {
            "masks": masks,
            "texture": texture,
            "variants": variants,
            "root": root,
            "category": category,
            "image_size": image_size,
            "resize_size": resize_size,
            "blend": blend,
            "texture_size": texture_size,
            "seed": seed,
            "exemplars": exemplars,
            "copies": copies,
            "stylizers": None if stylizers is None else [stylizer_settings(some) for some in stylizers],
        }
        found = read_masks(masks, root, category)
        sizes_given = image_size is not None or resize_size is not None
        self.frame = Frame(image_size, resize_size) if sizes_given else found.frame
        self.blend, self.seed = blend, seed
        self._texture_path = None if texture is None else _existing_texture(texture)
        self._texture_frame_size, self._stylizers = texture_size, stylizers
        chosen = _choose(exemplars, len(found.images), masks)
        self._images = [found.images[position] for _ in range(copies) for position in chosen]
        self._copies = [copy for copy in range(copies) for _ in chosen]
        known = [image.name for image in found.images]
        self._variants = None if variants is None else _variant_paths(variants, self.names, known)

    def __len__(self) -> int:
        return len(self._images)

    @property
    def names(self) -> list[str]:
        """Name of each exemplar, as the masks have it."""
        return [image.name for image in self._images]

    @property
    def class_names(self) -> list[str]:
        """Class of each exemplar: the name of its folder, or what the masks file says."""
        return [image.class_name for image in self._images]

    @property
    def originals(self) -> Tensor:
        """The exemplars, float32 ``[n, 3, H, W]`` in [0, 1], not normalised."""
        return self._all.original

    @property
    def manipulated(self) -> Tensor:
        """The exemplars with A in place of B, float32 ``[n, 3, H, W]`` in [0, 1], not normalised."""
        return self._all.manipulated

    @property
    def masks(self) -> Tensor:
        """Where B is, float32 ``[n, H, W]`` in [0, 1]: the share of each pixel."""
        return self._all.mask

    @property
    def textures(self) -> Tensor:
        """What was pasted, but not only inside the masks: float32 ``[n, 3, H, W]`` in [0, 1]; else the variants."""
        return self._all.texture

    @property
    def texture(self) -> Tensor:
        """The first exemplar's texture or variant, float32 ``[3, H, W]`` in [0, 1]."""
        return self._all.texture[0]

    def labels(self, classes: Sequence[str]) -> Tensor:
        """Return the exemplars' labels.

        Args:
            classes: all classes of the network; the position is the label, as in ``ImageDataModule.classes``.

        Returns:
            Labels, int64 ``[n]``.

        Raises:
            UserError: an exemplar's class is none of them.
        """
        return class_labels(self.class_names, classes, self.names)

    def read(self, index: int) -> RuleExemplar:
        """Read one exemplar.

        Args:
            index: its position among those in use.

        Returns:
            The exemplar.

        Raises:
            UserError: a file cannot be read, or the mask does not fit the image or is empty.
        """
        image = self._images[index]
        original, mask = image.read(self.frame)
        if self._variants is not None:
            variant = self._read_variant(self._variants[index], image)
            return RuleExemplar(original, variant, mask, variant)
        if self._stylizers is not None:
            stylizer = self._stylizers[index % len(self._stylizers)]
            drawn = stylized(stylizer, original, None, mask, self._image_seed(index))
            return RuleExemplar(original, paste_image(original, drawn, mask), mask, drawn)
        height, width = mask.shape
        texture = fit_texture(self._stored_texture, (height, width), self._image_seed(index))
        if self.blend == "shading":
            texture = shade(texture, original, mask)
        return RuleExemplar(original, paste_image(original, texture, mask), mask, texture)

    def save(self, folder: str | Path) -> dict[str, Any]:
        """Write the manipulated images as an image folder with a manifest; the same rule gives the same bytes.

        Args:
            folder: a new or empty folder.

        Returns:
            The manifest, see :func:`~editable.data.save_manipulated_folder`.

        Raises:
            UserError: the folder is not empty, or an exemplar cannot be read.
        """
        return save_manipulated_folder(folder, self._manipulated_images(), self.settings)

    @cached_property
    def _all(self) -> RuleExemplar:
        read = [self.read(index) for index in range(len(self))]
        first = read[0].mask.shape
        for image, exemplar in zip(self._images, read, strict=True):
            height, width = exemplar.mask.shape
            if (height, width) != first:
                raise UserError(
                    f"The image {image.path} is {height}×{width} pixels (height × width) where the first exemplar is "
                    f"{first[0]}×{first[1]}: set image_size to bring all exemplars to one size."
                )
        return RuleExemplar(*(torch.stack(parts) for parts in zip(*read, strict=True)))

    @cached_property
    def _stored_texture(self) -> Tensor:
        assert self._texture_path is not None
        texture = read_image(self._texture_path)
        if self._texture_frame_size is not None:
            texture = v2.functional.resize(texture, [self._texture_frame_size])
        return v2.functional.to_dtype(texture, torch.float32, scale=True)

    def _read_variant(self, path: Path, image: MaskedImage) -> Tensor:
        variant, size = read_image(path), read_image(image.path).shape
        if variant.shape != size:
            raise UserError(
                f"The variant {path} is {variant.shape[1]}×{variant.shape[2]} pixels (height × width), but must be as "
                f"large as its exemplar {image.path}, which is {size[1]}×{size[2]}."
            )
        return v2.functional.to_dtype(self.frame.transform(variant), torch.float32, scale=True)

    def _source_of_new(self, index: int) -> str:
        """Return where the new concept in an exemplar comes from, for the manifest."""
        if self._stylizers is not None:
            return str(self.settings["stylizers"][index % len(self._stylizers)]["name"])
        return str(self._texture_path if self._variants is None else self._variants[index])

    def _image_seed(self, index: int) -> int:
        copy = f" {self._copies[index]}" if self._copies[index] else ""
        return crc32(f"{self.seed} {self._images[index].name}{copy}".encode())

    def _manipulated_images(self) -> Iterator[ManipulatedImage]:
        for index, image in enumerate(self._images):
            yield ManipulatedImage(
                image=self.read(index).manipulated,
                class_name=image.class_name,
                name=f"{index:04}-{image.path.stem}",  # names in one class folder may come from several
                source=str(image.path),
                mask=image.mask_source,
                texture=self._source_of_new(index),
                seed=self._image_seed(index) if self._variants is None else None,
            )


def _check_new_concept(
    texture: str | None, variants: Any, stylizers: list[Callable] | None, blend: str, texture_size: int | None
) -> None:
    ways = {"texture": texture, "variants": variants, "stylizers": stylizers}
    given = [name for name, some in ways.items() if some is not None]
    if len(given) != 1:
        which = "none is given" if not given else f"{' and '.join(given)} are given"
        raise UserError(f"The new concept is a texture, a set of variants, or stylizers draw it, but {which}: set one.")
    if stylizers is not None and not (stylizers and all(map(callable, stylizers))):
        raise UserError(f"stylizers must be at least one function or callable class, got {stylizers!r}.")
    if blend not in get_args(Blend):
        raise UserError(f"blend is {blend!r}, but must be one of {', '.join(get_args(Blend))}.")
    if texture is None and (blend != "paste" or texture_size is not None):
        raise UserError(f"blend and texture_size are for a texture, but {given[0]} are given: leave the two out.")


def _existing_texture(texture: str) -> Path:
    path = Path(texture).expanduser()
    if not path.is_file():
        raise UserError(f"The texture {path} does not exist: expected an image file of the new concept.")
    return path


def _choose(exemplars: int | Sequence[int] | None, count: int, masks: str) -> list[int]:
    if exemplars is None:
        return list(range(count))
    if not isinstance(exemplars, Sequence):
        require_at_least(1, exemplars=exemplars)
        if exemplars > count:
            raise UserError(f"exemplars is {exemplars}, but must be from 1 to {count}, the number in {masks}.")
        return list(range(exemplars))
    chosen = list(exemplars)
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(count)):
        raise UserError(
            f"exemplars is {chosen}, but must be different positions from 0 to {count - 1}, at least one of them."
        )
    return chosen


def _variant_paths(variants: str | Mapping[str, str], names: list[str], known: list[str]) -> list[Path]:
    """Return the variant of each of ``names``; there may be some of exemplars that are known but not in use."""
    if isinstance(variants, str):
        return matching_images(Path(variants).expanduser(), names, "variant")
    paths = {name_key(name): Path(path).expanduser() for name, path in variants.items()}
    strange = [name for name in variants if name_key(name) not in map(name_key, known)]
    if strange:
        raise UserError(f"variants name the exemplar {strange[0]}, but the masks have {', '.join(known[:5])}.")
    for name in names:
        path = paths.get(name_key(name))
        if path is None:
            raise UserError(f"variants have no image for the exemplar {name}: give each its path.")
        if not path.is_file():
            raise UserError(f"The variant {path} of the exemplar {name} does not exist: expected an image file.")
    return [paths[name_key(name)] for name in names]
