"""Image files decoded on a CUDA device, many at once, and kept in memory: worker processes read, the device decodes."""

import warnings
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path

import torch
import torchvision
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from editable.data.images.images import ImageFiles, LabelledImages, keep_images, packed, require_size
from editable.data.images.reader import ImageError, is_plain_jpeg, read_image_bytes
from editable.errors import UserError

__all__ = ["cache_by_nvjpeg", "decode_on_device", "require_nvjpeg"]

BATCH = 64


def require_nvjpeg() -> None:
    """Raise a :class:`UserError` where there is no device to decode on, or no decoder."""
    if not torch.cuda.is_available():
        raise UserError("decoder is nvjpeg, which decodes on a CUDA device, and there is none: give decoder=pillow")
    if not hasattr(torchvision.io, "decode_jpeg"):  # deprecated since torchvision 0.29
        raise UserError(f"decoder is nvjpeg, which torchvision {torchvision.__version__} has not: give decoder=pillow")


def cache_by_nvjpeg(files: ImageFiles, num_workers: int, description: str) -> LabelledImages:
    """Decode all files once, and keep the pixels in memory, as :func:`~editable.data.images.images.cache_images` does.

    What any decoder shows alike, JPEG in grey or RGB that is not turned, is decoded by nvJPEG, whose pixels may differ
    from Pillow's by some levels; all else, and what nvJPEG cannot decode, by Pillow.

    Args:
        files: the image files.
        num_workers: worker processes that read them; 0 reads in this process.
        description: the words beside the progress bar.

    Raises:
        ImageError: a file cannot be decoded, or its size is not the one demanded.
        UserError: there is no CUDA device, or this torchvision does not decode on it.
    """
    require_nvjpeg()
    contents = _Contents(files.paths)
    loader = DataLoader(contents, batch_size=BATCH, num_workers=num_workers, collate_fn=list)
    return keep_images(_decoded(loader, files), files, description)


class _Contents(Dataset[tuple[int, bytes]]):
    """What files hold, with their positions."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, bytes]:
        path = self.paths[index]
        try:
            return index, Path(path).read_bytes()
        except OSError as error:
            reason = f"The image {path} cannot be read ({error.strerror}): replace or remove the file."
            raise ImageError(reason) from error


def _decoded(loader: DataLoader, files: ImageFiles) -> Iterator[tuple[Tensor, list[torch.Size]]]:
    said = False
    for batch in loader:
        plain = [content for _, content in batch if is_plain_jpeg(content)]
        by_device: Iterator[Tensor | None] = repeat(None)
        try:
            by_device = iter(decode_on_device(plain))
        except RuntimeError as error:
            if not said:
                reason = str(error).strip().partition("\n")[0]
                warnings.warn(f"nvJPEG cannot decode some images, which Pillow decodes ({reason})", stacklevel=2)
            said = True
        images = []
        for index, content in batch:
            image = next(by_device) if is_plain_jpeg(content) else None
            image = read_image_bytes(content, str(files.paths[index])) if image is None else image
            require_size(image, files.size, files.paths[index])
            images.append(image)
        yield packed(images)


def decode_on_device(contents: list[bytes]) -> list[Tensor]:
    """Decode JPEGs, uint8 ``[3, H, W]`` each, in memory again."""
    if not contents:
        return []
    rgb = torchvision.io.ImageReadMode.RGB
    buffers = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in contents]
    return [image.cpu() for image in torchvision.io.decode_jpeg(buffers, rgb, device="cuda")]
