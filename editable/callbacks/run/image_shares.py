"""Test images as they are stored, in [0, 1], with their names: dealt out over processes, in batches."""

from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar

import torch
from lightning.pytorch import Trainer
from rich.progress import Progress
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import v2

from editable.callbacks.run.edit_loop import all_ranks
from editable.data import ImageDataModule
from editable.data.modules.image_names import image_names
from editable.models.machine.devices import to_device

__all__ = ["ImageShares"]

T = TypeVar("T")


class ImageShares:
    """Deals a data module's test images out over processes, with a progress bar.

    Args:
        trainer: Of the run.
        data: The images.
        device: Where they are wanted.
        progress: Where bars are drawn.

    Attributes:
        labels: True labels of all test images, int64 [N].
        device: Where images are wanted.
    """

    def __init__(self, trainer: Trainer, data: ImageDataModule, device: torch.device, progress: Progress) -> None:
        self._rank, self._world_size = trainer.global_rank, trainer.world_size
        self._images, self._names = _PlainImages(data), image_names(data.test_dataset)
        self._batch_size, self._num_workers = data.batch_size, data.num_workers
        self._progress = progress
        self.labels, self.device = self.labels_of(data), device

    @staticmethod
    def labels_of(data: ImageDataModule) -> Tensor:
        """Return the labels of the test images, int64 [N]; none is decoded."""
        images: Dataset = data.test_dataset.images
        if isinstance(images, Subset):
            return images.dataset.labels[images.indices]  # type: ignore[attr-defined]
        return images.labels  # type: ignore[attr-defined]

    def batches(
        self, positions: Sequence[int], description: str, finished: Collection[int] = ()
    ) -> Iterator[tuple[Tensor, list[str], Tensor]]:
        """Yield this process's share of some images.

        Args:
            positions: Of the images among all test images.
            description: What stands beside the bar.
            finished: Positions that an interrupted run has looked at, in batches of the same size: they are left out
                once images are dealt out, so that the batches that follow are those of a run that was not interrupted.

        Yields:
            Images [B, C, H, W] in the size that the network takes, in [0, 1] and not normalised; their names; their
            positions, int64 [B], on the CPU.
        """
        done = set(finished)
        own = [position for position in list(positions)[self._rank :: self._world_size] if position not in done]
        task = self._progress.add_task(description, total=len(own))
        loader: DataLoader = DataLoader(Subset(self._images, own), self._batch_size, num_workers=self._num_workers)
        for images, numbers in loader:
            yield to_device(images, self.device), [self._names[number] for number in numbers.tolist()], numbers
            self._progress.advance(task, len(numbers))
        self._progress.remove_task(task)

    def gather(self, own: list[T]) -> list[T]:
        """Return what all processes have, one after another."""
        return [item for share in all_ranks(own, self._world_size) for item in share]


class _PlainImages(Dataset[tuple[Tensor, int]]):
    """An item is an image, resized but not normalised, and its position."""

    def __init__(self, data: ImageDataModule) -> None:
        self._images, self._resize = data.test_dataset.images, data.resize

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self._resize(self._images[index][0])
        return v2.functional.to_dtype(image, torch.float32, scale=True), index
