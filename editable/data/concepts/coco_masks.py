"""Masks from COCO annotations, by the optional package pycocotools."""

import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from editable.data.concepts.masked_image import MaskedImage
from editable.data.images.frame import Frame
from editable.errors import UserError, require_finite, require_side, require_whole

__all__ = ["AnnotatedImage", "annotated_images"]


@dataclass(frozen=True, eq=False)
class AnnotatedImage(MaskedImage):
    """An image whose mask is the union of its COCO annotations of one category.

    Polygons and run lengths are rasterised by pycocotools, in pixels of the stored image.

    Args:
        coco: the annotations, a ``pycocotools.coco.COCO``.
        annotation_ids: those of the image and the category.
    """

    coco: Any
    annotation_ids: tuple[int, ...]

    def draw(self, stored: tuple[int, int], frame: Frame) -> Tensor:
        """Draw the annotations, float32 ``[H, W]``, resized and cropped like the image: bilinear, antialiased.

        Raises:
            UserError: an annotation cannot be drawn, or the image's size is not the annotated one.
        """
        try:
            masks = [self.coco.annToMask(annotation) for annotation in self.coco.loadAnns(list(self.annotation_ids))]
        except Exception as error:  # pycocotools checks nothing: any type of error
            raise UserError(
                f"The annotations of the image {self.path} in {self.mask_source} cannot be drawn ({error!r}): each "
                "must have a segmentation, as polygons or run lengths."
            ) from error
        return self._transform(torch.from_numpy(np.maximum.reduce(masks)), stored, frame)


def annotated_images(content: Mapping[str, Any], source: Path, root: Path, category: str | None) -> list[MaskedImage]:
    """Find the images that have annotations of a category, sorted by file name.

    Args:
        content: COCO annotations: images, annotations, categories.
        source: the file that they come from, for messages.
        root: the folder that the file names are relative to.
        category: the category's name.

    Returns:
        The images; an image's class is the name of its folder.

    Raises:
        UserError: pycocotools is not installed, the category is not in the annotations, these are not in order, or a
            number of the category's annotations is NaN, infinite, or far outside of its image.
    """
    coco = _index(content, source)
    names = [entry["name"] for entry in coco.cats.values()]
    if category not in names:
        near = get_close_matches(category or "", names, n=5) or names[:5]
        raise UserError(
            f"category is {category or 'not set'}, but must be one of the {len(names)} categories of {source}, such as "
            f"{', '.join(near)}."
        )
    category_id = next(key for key, entry in coco.cats.items() if entry["name"] == category)
    ids = coco.getImgIds(catIds=[category_id])
    if not ids:
        raise UserError(f"No image of the annotations {source} has the category {category!r}: choose another one.")
    make = partial(AnnotatedImage, mask_source=f"{source} ({category})", coco=coco)
    images: list[MaskedImage] = []
    for entry in sorted(coco.loadImgs(ids), key=lambda entry: entry["file_name"]):
        name = entry["file_name"]
        annotation_ids = tuple(coco.getAnnIds(imgIds=[entry["id"]], catIds=[category_id]))
        require_side(**{f"{side} of the image {name} in {source}": entry[side] for side in ("height", "width")})
        for annotation in coco.loadAnns(list(annotation_ids)):
            where = f"The annotation {annotation['id']} of the image {name} in {source}"
            _check_segmentation(annotation.get("segmentation"), (entry["height"], entry["width"]), where)
        class_name = PurePosixPath(name).parent.name or root.name
        images.append(make(name=name, path=root / name, class_name=class_name, annotation_ids=annotation_ids))
    return images


def _check_segmentation(segmentation: Any, size: tuple[int, int], where: str) -> None:
    """Refuse polygons and run lengths that reach far beyond their image, for which pycocotools takes any memory.

    What is neither of the two is refused where it is drawn.
    """
    if isinstance(segmentation, list):
        for polygon in segmentation:
            _check_polygon(polygon, max(size), where)
    if isinstance(segmentation, dict):
        if segmentation.get("size") != list(size):
            raise UserError(f"{where} has run lengths of size {segmentation.get('size')}, but must have {list(size)}.")
        counts = segmentation.get("counts")
        if isinstance(counts, list):
            require_whole(0, size[0] * size[1], **{f"{where}: each run length": counts})
            if sum(counts) != size[0] * size[1]:
                raise UserError(
                    f"{where} has run lengths of {sum(counts)} pixels in all, but must have {size[0] * size[1]}."
                )


def _check_polygon(polygon: Any, side: int, where: str) -> None:
    """Refuse what is no polygon, or has a vertex further than the image's longer side from the image."""
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        got = f"{len(polygon)} of them" if isinstance(polygon, list) else repr(polygon)
        raise UserError(f"{where} must have polygons [x, y, x, y, …] of at least 3 points, so 6 numbers, got {got}.")
    require_finite(**{f"{where}: each number of a polygon": polygon})
    far = [value for value in polygon if not -side <= value <= 2 * side]
    if far:
        raise UserError(f"{where} has a polygon that reaches to {far[0]:g}, but the image only to {side} pixels.")


def _index(content: Mapping[str, Any], source: Path) -> Any:
    try:
        from pycocotools.coco import COCO
    except ImportError as error:
        raise UserError(
            f"Reading the COCO annotations {source} needs pycocotools: pip install 'editable[coco]'."
        ) from error
    coco = COCO()
    coco.dataset = dict(content)
    try:
        itemgetter("images", "categories")(content)
        with redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            coco.createIndex()
        coco.loadImgs([annotation["image_id"] for annotation in coco.anns.values()])
        for entries, keys in ((coco.imgs, ("file_name", "height", "width")), (coco.cats, ("name",))):
            for entry in entries.values():
                itemgetter(*keys)(entry)
    except Exception as error:  # pycocotools checks nothing: any type of error
        raise UserError(
            f"The COCO annotations {source} are not in order ({error!r}): expected the lists images (id, file_name, "
            "height, width), annotations (image_id, category_id, segmentation) and categories (id, name)."
        ) from error
    return coco
