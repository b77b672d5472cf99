"""Images are found in whatever a data loader gives."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from editable.errors import UserError
from editable.rewriting.memory.image_batches import images_of

CPU = torch.device("cpu")


def test_alone_or_with_labels():
    images, labels = torch.randn(3, 2, 4, 4), torch.arange(3)
    for batch in (images, (images, labels), [images], (images, {"label": labels})):
        assert torch.equal(images_of(batch, CPU), images)
    assert torch.equal(images_of(next(iter(DataLoader(TensorDataset(images, labels), batch_size=3))), CPU), images)


@pytest.mark.parametrize("batch", [{"image": torch.zeros(1)}, (), "images", ([1.0, 2.0], 0), None])
def test_something_else(batch: object):
    with pytest.raises(UserError, match=r"a batch must be images \[N, C, H, W\]"):
        images_of(batch, CPU)
