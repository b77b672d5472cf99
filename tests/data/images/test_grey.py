import numpy as np
import torch
from PIL import Image

from editable.data.images.grey import GreyImages, to_grey
from editable.data.images.images import ArrayImages


def test_as_pillow_has_it() -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (40, 50, 3), dtype=np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    expected = torch.from_numpy(np.array(Image.fromarray(pixels).convert("L")))
    assert torch.equal(to_grey(image)[0], expected)
    floats = to_grey(image / 255)
    assert floats.shape == (1, 40, 50)
    torch.testing.assert_close(floats[0] * 255, expected.float(), atol=0.51, rtol=0)


def test_grey_levels_stay_as_they_are() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    assert torch.equal(to_grey(levels.expand(3, -1, -1)), levels)
    assert torch.equal(to_grey(levels), levels)


def test_images_keep_names_and_labels() -> None:
    stored = ArrayImages(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([1, 0]))
    stored.names = ["a", "b"]
    grey = GreyImages(stored)
    assert (grey.names, [label for _, label in (grey[index] for index in range(2))]) == (["a", "b"], [1, 0])
    assert grey[0][0].shape == (1, 4, 4)
