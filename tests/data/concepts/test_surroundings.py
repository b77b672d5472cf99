"""Filling from surroundings: what is known stays, what is not lies between its neighbours."""

import pytest
import torch
from torch import Tensor

from editable.data.concepts.surroundings import fill_from_surroundings, surroundings
from editable.errors import UserError


def hole(height: int, width: int, rows: slice, columns: slice) -> Tensor:
    mask = torch.zeros(1, height, width, dtype=torch.float64)
    mask[:, rows, columns] = 1
    return mask


def test_known_pixels_stay_and_what_was_in_the_hole_has_no_influence():
    images = torch.rand(1, 3, 20, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = hole(20, 17, slice(12, 18), slice(3, 9))
    filled = fill_from_surroundings(images, mask)
    assert torch.equal(filled[..., mask[0] == 0], images[..., mask[0] == 0])
    others = torch.where(mask[:, None] == 1, 1 - images, images)
    assert torch.equal(fill_from_surroundings(others, mask), filled)


@pytest.mark.parametrize("size", [(32, 32), (13, 7), (5, 1)])
def test_one_colour_goes_on_into_the_hole(size):
    images = torch.full((1, 3, *size), 0.3, dtype=torch.float64)
    mask = torch.ones(1, *size, dtype=torch.float64)
    mask[0, 0, 0] = 0
    images = torch.where(mask[:, None] == 1, 0.9, images)
    assert torch.allclose(fill_from_surroundings(images, mask), torch.tensor(0.3, dtype=torch.float64))


def test_a_slope_goes_on_through_the_hole():
    slope = torch.linspace(0, 1, 32, dtype=torch.float64).expand(1, 3, 32, 32)
    mask = hole(32, 32, slice(12, 17), slice(12, 17))
    filled = fill_from_surroundings(torch.where(mask[:, None] == 1, 1.0, slope), mask)
    assert (filled - slope).abs().max() < 1.5 / 31


def test_half_masked_pixels_are_half_filled():
    images = torch.full((1, 3, 8, 8), 0.2, dtype=torch.float64)
    images[..., 4, 4] = 1.0
    mask = hole(8, 8, slice(4, 5), slice(4, 5)) / 2
    filled = fill_from_surroundings(images, mask)
    assert 0.2 < filled[0, 0, 4, 4] < 1.0


def test_images_are_filled_one_by_one():
    images = torch.rand(3, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(3, 16, 16, dtype=torch.float64)
    masks[0, 2:6, 2:6], masks[1] = 1, 1
    filled = fill_from_surroundings(images, masks)
    assert torch.equal(filled[1], images[1])  # covered: nothing to fill it from
    assert torch.equal(filled[2], images[2])
    alone = fill_from_surroundings(images[:1], masks[:1])
    assert torch.allclose(filled[0], alone[0])


def test_as_a_stylizer_it_looks_at_the_image_alone():
    image = torch.rand(3, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    mask = hole(9, 9, slice(2, 6), slice(3, 8))[0]
    filled = fill_from_surroundings(image[None], mask[None])[0]
    for texture, seed in ((torch.zeros(3, 2, 2), 0), (None, 1)):
        assert torch.equal(surroundings(image=image, texture=texture, mask=mask, seed=seed), filled)


def test_mistakes():
    with pytest.raises(UserError, match=r"masks \[N, H, W\] of the same size"):
        fill_from_surroundings(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 5))
    with pytest.raises(UserError, match="must be floats"):
        fill_from_surroundings(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(1, 4, 4))
