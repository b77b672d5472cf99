"""Order and augmentation of training images as a pure function of seed, epoch and position.

So an epoch looks the same whether the run came to it without a break or was resumed from a checkpoint, in its middle
too, and whatever the number of worker processes. With R ranks, the images of R batches (one a rank) are those of one R
times larger batch on one rank.
"""

from collections.abc import Callable, Iterator
from itertools import islice, repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

__all__ = ["AugmentedImages", "EpochSampler", "ResumableLoader"]


class EpochSampler(DistributedSampler[tuple[int, int]]):
    """Shuffle anew in each epoch, and yield ``(epoch, index)`` instead of the bare index.

    The epoch travels with the index, so worker processes that outlive an epoch know which epoch an image is for.
    Lightning calls ``set_epoch`` before each epoch and keeps a :class:`~torch.utils.data.DistributedSampler` as it
    is. The tail that does not divide by the number of ranks is left out, a different one in each epoch, so that no
    image is seen by two ranks.

    Args:
        dataset: the data set of ``N`` images.
        seed: seed of the order, ≥ 0.
        num_replicas: number of ranks that share the data set.
        rank: this process's rank, from 0.
    """

    def __init__(self, dataset: Dataset, seed: int, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed, drop_last=True)
        self._begun = (0, 0)

    def begin_at(self, epoch: int, num_done: int) -> None:
        """Begin with this epoch, behind so many of its images of this rank: an interrupted run has seen them.

        Args:
            epoch: The epoch that was interrupted; later ones are whole.
            num_done: Number of its images that are left out, from the first on.
        """
        self._begun = (epoch, num_done)
        self.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        indices: Iterator = super().__iter__()
        epoch, num_done = self._begun
        return zip(repeat(self.epoch), islice(indices, num_done if epoch == self.epoch else 0, None))


class ResumableLoader(DataLoader):
    """A loader over an :class:`EpochSampler`, which knows where to begin; so Lightning need not warn that none does.

    Its state is empty: the position in an epoch is the trainer's number of batches done.
    """

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take nothing."""


class AugmentedImages(Dataset[tuple[Tensor, int]]):
    """Training images under a random transform whose randomness is fixed by ``(seed, epoch, index)``.

    An item is ``(transform(image), label)``. The key is what :class:`EpochSampler` yields; a bare index stands for
    epoch 0 (Lightning's ``overfit_batches`` walks the data set so: the very same batches in each epoch).

    Args:
        images: data set of ``(image, label)``.
        transform: the random transform; its randomness must come from torch's default CPU generator, as that of all
            torchvision transforms does.
        seed: seed of the augmentation, ≥ 0.
        alternating: mirror each image in every other epoch, before the transform; which ones of them in even epochs,
            is drawn.
    """

    def __init__(
        self,
        images: Dataset[tuple[Tensor, int]],
        transform: Callable[[Tensor], Tensor],
        seed: int,
        alternating: bool = False,
    ) -> None:
        self.images = images
        self.transform = transform
        self.seed = seed
        self.alternating = alternating

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        image, label = self.images[index][:2]
        if self.alternating and (self._draw(index) + epoch) % 2:
            image = image.flip(-1)
        seed = self._draw(epoch, index)
        with torch.random.fork_rng(devices=[]):
            # not torch.manual_seed: it would also reseed the accelerators, which fork_rng leaves alone here
            torch.default_generator.manual_seed(seed)
            return self.transform(image), label

    def _draw(self, *key: int) -> int:
        """Return a number of 64 random bits that depends on the seed and a key alone."""
        return np.random.SeedSequence((self.seed, *key)).generate_state(1, np.uint64).item()
