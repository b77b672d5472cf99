import pytest
import torch
from torchvision.transforms import v2

from editable.data.modules.augmentations import make_augmentation, make_erasure
from editable.errors import UserError


def windows(image, padding):
    """All crops of the zero-padded image that have the image's size, by slicing."""
    size = image.shape[-1]
    padded = torch.nn.functional.pad(image, [padding] * 4)
    steps = range(2 * padding + 1)
    return [padded[:, y : y + size, x : x + size] for y in steps for x in steps]


@pytest.mark.parametrize(("name", "padding", "flips"), [("shift", 1, False), ("crop_flip", 4, True)])
def test_crops_are_windows_of_the_padded_image(name, padding, flips):
    image = torch.randint(1, 256, (3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    allowed = windows(image, padding)
    allowed += [window.flip(-1) for window in allowed] if flips else []
    augment = make_augmentation(name, (8, 8), v2.Identity())
    hits = set()
    for _ in range(200):
        out = augment(image)
        hits.add(next(i for i, window in enumerate(allowed) if torch.equal(out, window)))
    assert len(hits) > len(allowed) / 2


@pytest.mark.parametrize("alternating", [False, True])
def test_shifts_reflect_the_edges(alternating):
    """Windows of the image with two reflected pixels around it, by indexing; mirrored ones unless they alternate."""
    image = torch.randint(1, 256, (3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    around = [2, 1, *range(8), 6, 5]
    padded = image[:, around][:, :, around]
    allowed = [padded[:, y : y + 8, x : x + 8] for y in range(5) for x in range(5)]
    allowed += [] if alternating else [window.flip(-1) for window in allowed]
    augment = make_augmentation("shift_flip", (8, 8), v2.Identity(), alternating)
    hits = set()
    for _ in range(300):
        out = augment(image)
        hits.add(next(i for i, window in enumerate(allowed) if torch.equal(out, window)))
    assert len(hits) > len(allowed) / 2


def test_none_only_resizes():
    image = torch.arange(3 * 8 * 8, dtype=torch.uint8).view(3, 8, 8)
    assert torch.equal(make_augmentation("none", (4, 4), v2.CenterCrop(4))(image), image[:, 2:6, 2:6])


@pytest.mark.parametrize("name", ["resized_crop_flip", "trivial_augment", "rand_augment"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crops_of_random_scale_take_any_size(name, dtype):
    augment = make_augmentation(name, (6, 6), v2.CenterCrop(6))
    for _ in range(40):  # of all changes that may be drawn
        out = augment(torch.ones(3, 20, 30, dtype=dtype))
        assert out.shape == (3, 6, 6)
        assert out.dtype == dtype


def test_a_tenth_is_erased_by_the_mean():
    torch.manual_seed(0)
    erase = make_erasure("trivial_augment")
    erased = [bool((erase(torch.ones(3, 16, 16)) == 0).any()) for _ in range(1000)]
    assert 70 < sum(erased) < 130  # three standard deviations of a binomial, 9.5
    image = torch.ones(3, 16, 16)
    assert torch.equal(make_erasure("rand_augment")(image), image)


def test_unknown_name():
    with pytest.raises(UserError, match=r"'cropflip' is unknown: choose one of none, shift, crop_flip, shift_flip"):
        make_augmentation("cropflip", (8, 8), v2.Identity())
