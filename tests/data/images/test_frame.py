from fractions import Fraction

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

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
@pytest.mark.parametrize(
    "frame", [Frame(), Frame(30), Frame(25, 40), Frame(45, 90), Frame((20, 38)), Frame((36, 20), (40, 30))]
)
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


@pytest.mark.parametrize("stored", [(31, 50), (50, 31), (40, 40), (7, 90)])
@pytest.mark.parametrize(("size", "cover"), [((12, 20), (12, 20)), ((20, 12), (24, 12)), (15, (15, 15))])
def test_two_sides_are_covered_and_the_centre_cut(stored, size, cover):
    """The least scale at which both sides are covered, as of CSS's `object-fit: cover`, by exact fractions."""
    scale = max(Fraction(new, old) for new, old in zip(cover, stored, strict=True))
    image = torch.from_numpy(np.random.RandomState(0).randint(0, 256, (3, *stored), dtype=np.uint8))
    resized = functional.resize(image, [int(scale * side) for side in stored])
    frame = Frame(size, cover if isinstance(size, tuple) else None)
    expected = functional.center_crop(resized, [size, size] if isinstance(size, int) else list(size))
    assert torch.equal(frame.transform(image), expected)
    assert frame.shape(stored) == tuple(expected.shape[1:])


def test_what_is_kept_of_images_depends_on_the_frame():
    """Identities of image sets hash the transform as it prints itself."""
    frames = [Frame(), Frame(12), Frame(12, 20), Frame((12, 16)), Frame((12, 16), (20, 20)), Frame((12, 16), (20, 21))]
    assert len({repr(frame.transform) for frame in frames}) == len(frames)


def test_a_square_by_two_sides_is_the_square_by_one():
    assert Frame((12, 12), [20, 20]) == Frame(12, 20)
    assert str(Frame((12, 12))) == str(Frame(12))
    assert str(Frame([12, 16])) == "the image resized over 12×16 and its centre cut to 12×16"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, None), "image_size must be at least 1, got 0"),
        ((2**14 + 1, None), "image_size must be at most 16384, got 16385"),
        ((224, 10**9), "resize_size must be at most 16384"),
        ((None, 8), "resize_size is 8, but must be at least image_size, which is not set"),
        ((9, 8), "resize_size is 8, but must be at least image_size, which is 9"),
        (((9, 12), (12, 11)), "resize_size is 12×11, but must be at least image_size, which is 9×12"),
        (((9, 12), 11), "resize_size is 11, but must be at least image_size, which is 9×12"),
        (((9, 12, 3), None), r"image_size must be one side, or height and width, got \[9, 12, 3\]"),
        (((9, 0), None), "image_size must be at least 1, got 0"),
        (("9x12", None), "image_size must be a whole number, got '9x12'"),
    ],
)
def test_sizes_out_of_range(sizes, message):
    with pytest.raises(UserError, match=message):
        Frame(*sizes)
