"""Where edits are made: the split network, and images that are neither edited nor judged."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from editable.errors import UserError
from editable.models import Features, SplitNetwork
from editable.models.machine.devices import to_device

__all__ = ["EditSite"]


class EditSite:
    """What an editor may ask of the place of its edits, besides the samples of an edit.

    Args:
        split: The network, furnished with what the editor needs, split at the first parameter that it changes.
        references: Called with a number n, returns batches (images [B, C, H, W], labels [B]) of n images, or of all
            where there are fewer, that are neither edited nor judged: the same ones each time.
        device: Where the network lives.

    Attributes:
        split: As given.
        device: As given.
    """

    def __init__(
        self,
        split: SplitNetwork,
        references: Callable[[int], Iterable[tuple[Tensor, Tensor]]],
        device: torch.device | str = "cpu",
    ) -> None:
        self.split, self.device = split, torch.device(device)
        self._references = references
        self._kept: dict[int, tuple[Features, Tensor]] = {}

    def image_batches(self, num_images: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield reference images [B, C, H, W] in the network's precision, and labels [B], on the device.

        Raises:
            UserError: If there is none.
        """
        dtype = next(iter(self.split.params.values())).dtype
        number = 0
        for images, labels in self._references(num_images):
            number += len(labels)
            yield to_device(images, self.device, dtype), to_device(labels, self.device)
        if not number:
            raise UserError("an editor needs reference images that are neither edited nor judged, and there are none")

    @torch.no_grad()
    def feature_batches(self, num_images: int) -> Iterator[tuple[Features, Tensor]]:
        """Run the prefix over reference images; yield features, each [B, …], and labels [B]; see `image_batches`."""
        for images, labels in self.image_batches(num_images):
            yield self.split.prefix(images), labels

    def features(self, num_images: int) -> tuple[Features, Tensor]:
        """Return features, each [n, …], and labels [n] of reference images; run once and kept."""
        if num_images not in self._kept:
            features, labels = zip(*self.feature_batches(num_images), strict=True)
            self._kept[num_images] = tuple(map(torch.cat, zip(*features, strict=True))), torch.cat(labels)
        return self._kept[num_images]
