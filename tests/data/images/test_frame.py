import numpy as np
import pytest
import torch

from editable.data import ImageFolderDataModule
from editable.data.images.frame import Frame
from editable.errors import UserError


@pytest.mark.parametrize("sizes", [(None, None), (12, None), (12, 20)])
def test_transform_is_that_of_the_data_module(tmp_path, sizes):
    image = torch.from_numpy(np.random.RandomState(0).randint(0, 256, (3, 31, 50), dtype=np.uint8))
    expected = ImageFolderDataModule(str(tmp_path), image_size=sizes[0], resize_size=sizes[1]).resize(image)
    assert torch.equal(Frame(*sizes).transform(image), expected)
    assert Frame(*sizes).shape((31, 50)) == tuple(expected.shape[1:])


@pytest.mark.parametrize("stored", [(60, 100), (100, 61), (57, 57), (40, 41)])
@pytest.mark.parametrize("frame", [Frame(), Frame(30), Frame(25, 40), Frame(45, 90)])
def test_points_go_where_the_pixels_go(stored, frame):
    top, left = stored[0] // 2 - 4, stored[1] // 2 - 5
    image = torch.zeros(1, *stored)
    image[:, top : top + 8, left : left + 6] = 1
    seen = frame.transform(image)[0].double()
    rows, columns = (torch.arange(n) + 0.5 for n in seen.shape)
    x, y = (float((seen * weights).sum() / seen.sum()) for weights in (columns, rows[:, None]))
    centre = np.array([[left + 3.0, top + 4.0]])
    np.testing.assert_allclose(frame.from_stored(centre, stored), [[x, y]], atol=0.1)
    np.testing.assert_allclose(frame.to_stored(frame.from_stored(centre, stored), stored), centre, rtol=1e-12)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, None), "image_size must be at least 1, got 0"),
        ((2**14 + 1, None), "image_size must be at most 16384, got 16385"),
        ((224, 10**9), "resize_size must be at most 16384"),
        ((None, 8), "resize_size is 8, but must be at least image_size, which is not set"),
        ((9, 8), "resize_size is 8, but must be at least image_size, which is 9"),
    ],
)
def test_sizes_out_of_range(sizes, message):
    with pytest.raises(UserError, match=message):
        Frame(*sizes)
