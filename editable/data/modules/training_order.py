"""Order and augmentation of training images as a pure function of seed, epoch and position.

So an epoch looks the same whether the run came to it without a break or was resumed from a checkpoint, and whatever
the number of worker processes. With R ranks, the images of R batches (one a rank) are those of one R times larger
batch on one rank.
"""

from collections.abc import Callable, Iterator
from itertools import repeat

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

__all__ = ["AugmentedImages", "EpochSampler"]


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

    def __iter__(self) -> Iterator[tuple[int, int]]:
        indices: Iterator = super().__iter__()
        return zip(repeat(self.epoch), indices)


class AugmentedImages(Dataset[tuple[Tensor, int]]):
    """Training images under a random transform whose randomness is fixed by ``(seed, epoch, index)``.

    An item is ``(transform(image), label)``. The key is what :class:`EpochSampler` yields; a bare index stands for
    epoch 0 (Lightning's ``overfit_batches`` walks the data set so: the very same batches in each epoch).

    Args:
        images: data set of ``(image, label)``.
        transform: the random transform; its randomness must come from torch's default CPU generator, as that of all
            torchvision transforms does.
        seed: seed of the augmentation, ≥ 0.
    """

    def __init__(self, images: Dataset[tuple[Tensor, int]], transform: Callable[[Tensor], Tensor], seed: int) -> None:
        self.images = images
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        image, label = self.images[index][:2]
        seed = np.random.SeedSequence((self.seed, epoch, index)).generate_state(1, np.uint64).item()
        with torch.random.fork_rng(devices=[]):
            # not torch.manual_seed: it would also reseed the accelerators, which fork_rng leaves alone here
            torch.default_generator.manual_seed(seed)
            return self.transform(image), label
