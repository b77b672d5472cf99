"""Images that are the same as others, pixel by pixel, wherever they come from."""

import hashlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.utils.data import Dataset

__all__ = ["ImageGroups", "SameImages", "digest"]

LOOKED_AT = 64  # pixels by which most images are told apart; the rest is compared where these agree


def digest(image: Tensor) -> bytes:
    """Return what an image is known by, the same for the same levels on every device."""
    levels = image.detach().cpu().float().contiguous()
    return hashlib.blake2b(levels.numpy().tobytes(), digest_size=16).digest()


class ImageGroups:
    """Notes, while batches pass by, which of their images are the same; they are kept as digests.

    Args:
        batches: Batches (images [B, C, H, W], labels [B]), which are handed on.

    Attributes:
        first: For each image so far the position of the first one that is the same.
    """

    def __init__(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        self._batches = batches
        self._known: dict[bytes, int] = {}
        self.first: list[int] = []

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches, and look at their images."""
        for images, labels in self._batches:
            for image in images:
                self.first.append(self._known.setdefault(digest(image), len(self.first)))
            yield images, labels


class SameImages:
    """Finds, in batches of images, those that are equal to one of some given images.

    Args:
        images: The images to look for, [K, C, H, W], as the network takes them.
    """

    def __init__(self, images: Tensor) -> None:
        self._images = images.flatten(1)

    def __call__(self, batch: Tensor) -> Tensor:
        """Return which images of a batch are among the given ones, bool [N], on the CPU.

        Args:
            batch: [N, C, H, W]; the given images are rounded to its data type.
        """
        found = torch.zeros(len(batch), dtype=torch.bool)
        if not len(self._images) or not len(batch) or batch[0].numel() != self._images.shape[1]:
            return found
        some, given = batch.flatten(1), self._images.to(batch)
        step = max(1, some.shape[1] // LOOKED_AT)
        near = (some[:, None, ::step] == given[None, :, ::step]).all(dim=-1).cpu()
        for position, other in near.nonzero().tolist():
            found[position] |= torch.equal(some[position], given[other])
        return found

    def others(self, images: Dataset) -> list[int]:
        """Return the positions of items of a data set, each an image and what goes with it, that are none of them."""
        number = len(images)  # type: ignore[arg-type]
        return [place for place in range(number) if not self(torch.as_tensor(images[place][0])[None]).item()]

    def pairs(self) -> list[tuple[int, int]]:
        """Return the positions of given images that are the same as each other, the lower one first."""
        count = len(self._images)
        return [
            (first, second)
            for first in range(count)
            for second in range(first + 1, count)
            if torch.equal(self._images[first], self._images[second])
        ]
