"""Batches that are dealt out over processes: each image is read by one of them, in the batches of a single process."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from editable.callbacks.run.edit_loop import loader_of_turns
from editable.data.turns import Turns


class Counted(Dataset):
    """Notes which of its items are read."""

    def __init__(self, number: int) -> None:
        self.number, self.read = number, []

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.read.append(index)
        return torch.tensor([index]), index


@pytest.mark.parametrize(("num_images", "size", "number"), [(10, 3, 2), (12, 3, 2), (5, 8, 2), (16, 4, 4), (9, 2, 4)])
def test_each_image_is_read_by_one_process_in_the_batches_of_one(num_images, size, number):
    whole = [images.flatten().tolist() for images, _ in DataLoader(Counted(num_images), size)]
    read = []
    for rank in range(number):
        images = Counted(num_images)
        loader = loader_of_turns(DataLoader(images, size), Turns(rank, number, size))
        assert [batch.flatten().tolist() for batch, _ in loader] == whole[rank::number]
        read += images.read
    assert sorted(read) == list(range(num_images))
