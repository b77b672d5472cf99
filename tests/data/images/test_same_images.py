"""Images that are the same are found by their pixels, whatever their place."""

import torch

from editable.data.images.same_images import SameImages


def test_found_by_content_alone() -> None:
    images = torch.rand(6, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    images[4] = images[1]
    same = SameImages(images[[1, 5]])
    assert same(images).tolist() == [False, True, False, False, True, True]
    near = images.clone()
    near[1, 0, 0, 1] += 1e-6  # between the pixels that are looked at first
    assert same(near).tolist() == [False, False, False, False, True, True]


def test_in_lower_precision_and_of_other_sizes() -> None:
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    same = SameImages(images[:1])
    assert same(images.bfloat16()).tolist() == [True, False, False]
    assert not same(images[..., :4]).any()
    assert not SameImages(images[:0])(images).any()
    assert same(images[:0]).tolist() == []


def test_pairs() -> None:
    images = torch.eye(4).view(4, 1, 2, 2)[[0, 1, 0, 3, 0]]
    assert SameImages(images).pairs() == [(0, 2), (0, 4), (2, 4)]
