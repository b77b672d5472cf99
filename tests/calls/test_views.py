"""Views by shifts and flips."""

import torch

from editable.calls.views import shifted_views


def test_views_are_shifts_of_an_eighth_and_flips():
    image = torch.arange(16.0 * 24).view(1, 1, 16, 24)
    views = shifted_views(image, 200)[0]
    rows, columns = torch.arange(16), torch.arange(24)
    found = set()
    for number, view in enumerate(views):
        shifts = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-3, 4)
            if torch.equal(
                view.flip(-1) if number % 2 else view,
                image[0][:, (rows + down).clamp(0, 15)][:, :, (columns + right).clamp(0, 23)],
            )
        ]
        assert len(shifts) == 1
        found.add(shifts[0])
    assert {down for down, _ in found} == set(range(-2, 3))
    assert {right for _, right in found} == set(range(-3, 4))


def test_views_depend_on_the_seed_alone():
    images = torch.randn(3, 2, 8, 8)
    assert torch.equal(shifted_views(images, 4)[1:2], shifted_views(images[1:2], 4))
    assert not torch.equal(shifted_views(images, 4, seed=1), shifted_views(images, 4))
    assert shifted_views(images, 0).shape == (3, 0, 2, 8, 8)
