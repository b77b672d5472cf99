"""Labelled images before any transform: arrays in memory, image files on disk, and a cache of decoded files."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from editable.command_line.progress import tracked
from editable.data.images.reader import ImageError, read_image

__all__ = [
    "ArrayImages",
    "ImageFiles",
    "LabelledImages",
    "PackedImages",
    "cache_images",
    "keep_images",
    "packed",
    "require_size",
]


class LabelledImages(Dataset[tuple[Tensor, int]], ABC):
    """Images with one class index each, as they are stored: not resized, augmented or normalised.

    An item is ``(image, label)``: image ``[C, H, W]``, uint8 in 0..255 or float32 in 0..1.

    Args:
        labels: class indices, int64 ``[N]``.

    Attributes:
        names: of the images, ``N`` of them, by which masks and tables know them; ``None`` where they have none.
        paths: the files that they are of, ``N`` of them, kept in memory or not; ``None`` where they are of none.
    """

    names: Sequence[str] | None = None
    paths: Sequence[str | Path] | None = None

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.read(index), int(self.labels[index])

    def take_names(self, images: "LabelledImages") -> None:
        """Be known by the names and the files of other images, which these are made of one by one."""
        self.names, self.paths = images.names, images.paths

    @abstractmethod
    def read(self, index: int) -> Tensor:
        """Return the image ``[C, H, W]`` at position ``index``."""


class ArrayImages(LabelledImages):
    """Images of one size, held in memory as one tensor.

    Args:
        images: ``[N, C, H, W]``, uint8 in 0..255 or float32 in 0..1.
        labels: class indices, int64 ``[N]``.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        super().__init__(labels)
        self.images = images

    def read(self, index: int) -> Tensor:
        """Return the image ``[C, H, W]`` at position ``index``."""
        return self.images[index]


class PackedImages(LabelledImages):
    """Images of many sizes, held in memory in one buffer.

    One buffer, because worker processes that are spawned receive every tensor through its own file descriptor.

    Args:
        pixels: the images one after another, each ``[C, H, W]`` flattened, uint8.
        shapes: the shape of each image, ``N`` of them.
        labels: class indices, int64 ``[N]``.
    """

    def __init__(self, pixels: Tensor, shapes: Sequence[torch.Size], labels: Tensor) -> None:
        super().__init__(labels)
        self.pixels = pixels
        self.shapes = shapes
        self.ends = torch.tensor([shape.numel() for shape in shapes]).cumsum(0)

    def read(self, index: int) -> Tensor:
        """Return the image ``[C, H, W]`` at position ``index``."""
        end, shape = int(self.ends[index]), self.shapes[index]
        return self.pixels[end - shape.numel() : end].view(shape)


class ImageFiles(LabelledImages):
    """Image files, decoded each time that they are asked for.

    Args:
        paths: the files, ``N`` of them.
        labels: class indices, int64 ``[N]``.
        size: height and width in pixels that every image must have; ``None`` allows any.
    """

    paths: Sequence[str | Path]

    def __init__(self, paths: Sequence[str | Path], labels: Tensor, size: tuple[int, int] | None = None) -> None:
        super().__init__(labels)
        self.paths = paths
        self.size = size

    def read(self, index: int) -> Tensor:
        """Decode one file.

        Args:
            index: position of the file.

        Returns:
            The image, uint8 ``[3, H, W]``.

        Raises:
            ImageError: the file cannot be decoded, or its size is not the one demanded.
        """
        image = read_image(self.paths[index])
        require_size(image, self.size, self.paths[index])
        return image


def require_size(image: Tensor, size: tuple[int, int] | None, name: str | Path) -> None:
    """Raise an :class:`ImageError` unless an image ``[C, H, W]`` has the height and width of the first one, if any."""
    height, width = image.shape[-2:]
    if size is not None and (height, width) != size:
        raise ImageError(
            f"The image {name} is {height}×{width} pixels (height × width) where the first image is "
            f"{size[0]}×{size[1]}: set image_size to bring all images to one size."
        )


def cache_images(files: LabelledImages, num_workers: int = 0, description: str = "Decoding images") -> LabelledImages:
    """Decode all files once, and keep the pixels in memory.

    Processes decode, not threads: on small images, threads spend more time waiting for the interpreter lock than they
    gain.

    Args:
        files: the image files, or others that take long to read.
        num_workers: worker processes that decode; 0 decodes in this process.
        description: the words beside the progress bar.

    Returns:
        The same images and labels in memory: :class:`ArrayImages` if all have one size, else :class:`PackedImages`.

    Raises:
        ImageError: a file cannot be decoded, or its size is not the one demanded.
    """
    loader = DataLoader(files, batch_size=64, num_workers=num_workers, collate_fn=_pack)
    return keep_images(loader, files, description)


def keep_images(
    batches: Iterable[tuple[Tensor, list[torch.Size]]], files: LabelledImages, description: str
) -> LabelledImages:
    """Keep decoded images in memory.

    Args:
        batches: the pixels of some images one after another, uint8, and their shapes, for all images in order.
        files: what they are of.
        description: the words beside the progress bar.
    """
    hide_bar = getattr(rank_zero_only, "rank", 0) != 0
    buffers: list[Tensor] = []
    shapes: list[torch.Size] = []
    with tracked(batches, description, hide_bar) as shown:
        for pixels, batch_shapes in shown:
            buffers.append(pixels)
            shapes += batch_shapes
    pixels = torch.cat(buffers)
    cached: LabelledImages
    if len(set(shapes)) == 1:
        cached = ArrayImages(pixels.view(len(files), *shapes[0]), files.labels)
    else:
        cached = PackedImages(pixels, shapes, files.labels)
    cached.take_names(files)
    return cached


def _pack(items: list[tuple[Tensor, int]]) -> tuple[Tensor, list[torch.Size]]:
    return packed([image for image, _ in items])


def packed(images: Sequence[Tensor]) -> tuple[Tensor, list[torch.Size]]:
    """Return the pixels of images one after another, and their shapes."""
    return torch.cat([image.flatten() for image in images]), [image.shape for image in images]
