"""Patches of one colour: found where they are planted, against a plain search of all squares, and what is refused."""

import pytest
import torch
from torch import Tensor

from editable.data import PlantedPatch
from editable.errors import UserError
from editable.rewriting.concepts.patch_finder import PatchFinder


def squares_by_hand(image: Tensor, colour: tuple[float, ...], size: int, tolerance: float) -> Tensor:
    height, width = image.shape[1:]
    mask = torch.zeros(height, width, dtype=image.dtype)
    for row in range(height - size + 1):
        for column in range(width - size + 1):
            part = image[:, row : row + size, column : column + size]
            if all((part[channel] - value).abs().max() <= tolerance for channel, value in enumerate(colour)):
                mask[row : row + size, column : column + size] = 1
    return mask


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_masks_equal_a_search_of_all_squares(size: int):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, 11, 9, dtype=torch.float64, generator=generator)
    colour = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)[:, None, None]
    blocks = torch.rand(6, 1, 11, 9, generator=generator) < 0.9
    images = torch.where(blocks, colour, images)
    finder = PatchFinder(size=size, tolerance=0.1)
    masks = finder.find(images, [""] * 6)
    expected = torch.stack([squares_by_hand(image, (1.0, 0.0, 1.0), size, 0.1) for image in images])
    assert torch.equal(masks, expected)
    assert 0 < masks.mean() < 1


@pytest.mark.parametrize("corner", ["upper_left", "lower_right"])
def test_a_planted_patch_is_found_and_nothing_else(corner):
    patch = PlantedPatch("cat", corner=corner, colour=(0.2, 0.8, 0.4))
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[:2] = torch.stack([patch.paste(image) for image in images[:2]])
    masks = PatchFinder(colour=(0.2, 0.8, 0.4)).find(images.float() / 255, ["a", "b", "c"])
    assert torch.equal(masks[0], patch.mask(32, 32))
    assert torch.equal(masks[1], patch.mask(32, 32))
    assert not masks[2].any()


def test_tolerance_is_of_each_channel_and_includes_its_end():
    images = torch.full((1, 3, 4, 4), 100 / 255)
    there, beyond = (PatchFinder(colour=(value / 255, 100 / 255, 100 / 255), tolerance=0.02) for value in (105, 106))
    assert PatchFinder(colour=[100 / 255] * 3, tolerance=0).find(images, [""] * 1)[0, :4, :4].numel() == 16
    assert not beyond.find(images, [""]).any()
    assert PatchFinder(colour=(105 / 255, 100 / 255, 100 / 255), size=4, tolerance=5 / 255).find(images, [""]).all()
    assert there.size == 5  # larger than the image
    assert not there.find(images, [""]).any()


def test_settings_tell_finders_apart():
    finders = [PatchFinder(), PatchFinder(size=4), PatchFinder(tolerance=0.1), PatchFinder(colour=(0, 0, 0))]
    settings = [finder.settings for finder in finders]
    assert all(settings.count(some) == 1 for some in settings)
    assert settings[0] == PatchFinder(colour=[1.0, 0.0, 1.0], size=5, tolerance=0.02).settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"colour": (1.0, 0.0)}, r"colour is red, green and blue, each from 0 to 1, got \[1.0, 0.0\]"),
        ({"colour": (255, 0, 255)}, r"colour must be in \[0, 1\], got \[255, 0, 255\]"),
        ({"tolerance": -0.1}, r"tolerance must be in \[0, 1\), got -0.1"),
        ({"tolerance": 1.0}, r"tolerance must be in \[0, 1\), got 1.0"),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(UserError, match=message):
        PatchFinder(**settings)


def test_grey_images_are_refused():
    with pytest.raises(UserError, match="images of three channels, got 1"):
        PatchFinder().find(torch.zeros(1, 1, 8, 8), [""])
