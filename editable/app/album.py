"""The images that can be seen and corrected: some test images, and what visitors have brought."""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from io import BytesIO
from threading import BoundedSemaphore, Lock
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from editable.data import ImageDataModule, denormalise
from editable.data.images.frame import Frame
from editable.data.images.grey import to_grey
from editable.data.images.reader import read_head, read_image_bytes
from editable.data.modules.image_names import image_names
from editable.errors import UserError
from editable.tables import visible_text

__all__ = ["Album", "AlbumImage", "draw_images"]

FORMATS = ("BMP", "GIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP")
"""What is decoded of what strangers send: Pillow's other formats are rare, and some start other programs. MPO is what
Pillow calls a JPEG with further pictures behind the first, as many telephones make them."""
MOST_BROUGHT = 100
AT_ONCE = 2
"""Files that are decoded and resized at the same time."""
MOST_NAME = 100


class AlbumImage(NamedTuple):
    """An image.

    Attributes:
        image: As the network gets it, float32 [C, H, W].
        name: What it is called.
        label: Its true label; none of what was brought.
        note: What was done to it, in words; empty where nothing was.
    """

    image: Tensor
    name: str
    label: int | None
    note: str = ""


class Album:
    """Test images by position, and brought ones by a key that nobody guesses.

    What is brought is never read from a path, and never written: it is decoded in memory by the one reader, once its
    size in pixels is known to be allowed.

    Args:
        data: The data module, set up for ``test``.
        images: The test images that can be seen, [N, C, H, W].
        labels: Of these, int64 [N].
        names: Of these.
        most_pixels: Largest height times width of what is brought, as it is stored and as it is resized.
    """

    def __init__(
        self, data: ImageDataModule, images: Tensor, labels: Tensor, names: Sequence[str], most_pixels: int
    ) -> None:
        self.images, self.labels, self.names, self.most_pixels = images, labels, list(names), most_pixels
        self._data = data
        self._brought: OrderedDict[str, AlbumImage] = OrderedDict()
        self._lock, self._decoding = Lock(), BoundedSemaphore(AT_ONCE)

    def get(self, key: str) -> AlbumImage:
        """Return an image by its key: a position such as ``12``, or what :meth:`bring` has returned.

        Raises:
            UserError: If there is none.
        """
        if key.isascii() and key.isdecimal() and len(key) < 10 and int(key) < len(self.labels):
            position = int(key)
            return AlbumImage(self.images[position], self.names[position], int(self.labels[position]))
        with self._lock:
            if key not in self._brought:
                raise UserError("that image is not there any more: bring it again")
            return self._brought[key]

    def bring(self, content: bytes, name: str) -> str:
        """Decode what a file holds, bring it to the network's size, and return its key.

        Args:
            content: Of the file.
            name: That the visitor gives it.

        Raises:
            UserError: If it is no image, or a too large one.
        """
        name = visible_text(name.replace("\\", "/").rpartition("/")[2], "")[:MOST_NAME].strip() or "an image"
        head = read_head(content, name)
        if head.format not in FORMATS:
            raise UserError(f"the image {name} is of the format {head.format}, but must be one of {', '.join(FORMATS)}")
        if head.height * head.width > self.most_pixels:
            raise UserError(
                f"the image {name} is {head.width}×{head.height} pixels, more than the {self.most_pixels / 1e6:g} "
                "million that are allowed: make it smaller"
            )
        _, rows, columns = self._data.image_shape
        scale = max(rows / head.height, columns / head.width)
        if head.height * head.width * scale**2 > self.most_pixels:
            raise UserError(
                f"the image {name} is {head.width}×{head.height} pixels, of which more than the "
                f"{self.most_pixels / 1e6:g} million that are allowed would be made to cover the {columns}×{rows} that "
                "the network gets: cut it to a part with sides of more equal length"
            )
        with self._decoding:
            made, note = self._as_the_network_gets_it(read_image_bytes(content, name))
        key = secrets.token_urlsafe(12)
        with self._lock:
            self._brought[key] = AlbumImage(made, name, None, note)
            while len(self._brought) > MOST_BROUGHT:
                self._brought.popitem(last=False)
        return key

    def png(self, key: str) -> bytes:
        """Return an image as a browser shows it."""
        return self.encoded(self.get(key).image)

    def encoded(self, image: Tensor) -> bytes:
        """Return an image that the network gets, [C, H, W], as PNG."""
        pixels = (denormalise(image, self._data.mean, self._data.std) * 255).round().to(torch.uint8)
        picture = Image.fromarray((pixels.expand(3, -1, -1) if len(pixels) == 1 else pixels).permute(1, 2, 0).numpy())
        content = BytesIO()
        picture.save(content, "PNG")
        return content.getvalue()

    def _as_the_network_gets_it(self, stored: Tensor) -> tuple[Tensor, str]:
        channels, height, width = self._data.image_shape
        image = to_grey(stored) if channels == 1 else stored
        made = self._data.resize(image)
        if tuple(made.shape[-2:]) != (height, width):  # the data are as they are stored: others are brought to that
            made = Frame((height, width)).transform(image)
        size = f"{stored.shape[-1]}×{stored.shape[-2]}"
        note = (
            "" if tuple(stored.shape[-2:]) == (height, width) else f"{size} pixels, resized and cut to {width}×{height}"
        )
        return self._data.normalisation(made), note


def draw_images(
    data: ImageDataModule, number: int, seed: int, progress: Callable[[int], object] = lambda done: None
) -> tuple[Tensor, Tensor, list[str]]:
    """Draw test images by seed and read them; in the order of the data set.

    Args:
        data: The data module, set up for ``test``.
        number: Of images; all where there are fewer.
        seed: Of the draw.
        progress: Called with the number of images done since the last call.

    Returns:
        Images [N, C, H, W], labels [N], and names.
    """
    dataset, names = data.test_dataset, image_names(data.test_dataset)
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))[:number].sort().values.tolist()
    items = []
    for position in order:
        items.append(dataset[position])
        progress(1)
    labels = torch.tensor([int(label) for _, label in items])
    return torch.stack([torch.as_tensor(image) for image, _ in items]), labels, [names[position] for position in order]
