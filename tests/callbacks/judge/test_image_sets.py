"""Sets that an edit is judged by: which images, under which labels, the same for the same seed."""

import pytest
import torch

from editable.callbacks.judge.image_sets import (
    confusing_images,
    is_one_of,
    mislabelled_images,
    random_images,
)
from editable.errors import UserError

LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])


def test_random_images_hang_on_the_seed_alone_and_fewer_are_a_part_of_more():
    labels = torch.arange(1000) % 7
    first, again, other = (random_images(labels, 100, seed) for seed in (3, 3, 4))
    assert len(first) == 100
    assert torch.equal(first.chosen, again.chosen)
    assert not torch.equal(first.chosen, other.chosen)
    assert bool((random_images(labels, 20, 3).chosen <= first.chosen).all())
    assert torch.equal(first.labels, labels)
    assert len(random_images(labels, 5000, 0)) == 1000
    # As many of each seventh as a draw without preference for place gives: 100 · 1/7, standard deviation 3.3.
    assert (labels[first.chosen].bincount().double() - 100 / 7).abs().max() < 4 * 3.3


def test_confusing_images_are_those_with_the_largest_activation():
    activations = torch.tensor([0.1, 0.9, -1.0, 0.5, 0.9, 0.0, 0.2, 0.3])
    assert confusing_images(LABELS, activations, 0.01).chosen.nonzero().flatten().tolist() == [1]
    assert confusing_images(LABELS, activations, 3 / 8).chosen.nonzero().flatten().tolist() == [1, 3, 4]
    assert len(confusing_images(LABELS, activations, 1.0)) == 8
    labels = torch.zeros(700, dtype=torch.long)
    assert len(confusing_images(labels, torch.rand(700), 0.01)) == 7


def test_mislabelled_images_are_all_of_the_target_classes_beside_those_of_the_noise_class():
    images = mislabelled_images(LABELS, [0, 2], 3)
    assert images.chosen.tolist() == [True, True, False, False, True, True, True, True]
    assert images.labels.tolist() == [3, 3, 1, 1, 3, 3, 3, 3]
    assert LABELS.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_labels_that_are_one_of_the_targets():
    assert is_one_of(LABELS, [1, 3]).tolist() == [False, False, True, True, False, False, True, True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: is_one_of(LABELS, [0, 1, 2, 3]), "all of the 8 test images are of the target classes"),
        (lambda: is_one_of(LABELS, [7]), "none of the 8 test images are of the target classes"),
        (lambda: random_images(LABELS, 0, 0), "count must be at least 1"),
        (lambda: random_images(LABELS, 1, -1), "seed must be at least 0"),
        (lambda: confusing_images(LABELS, torch.zeros(8), 0.0), r"share must be in \(0, 1\], got 0"),
        (lambda: confusing_images(LABELS, torch.zeros(8), 1.5), r"share must be in \(0, 1\], got 1.5"),
        (lambda: confusing_images(LABELS, torch.zeros(7), 0.1), "one for each of 8 images"),
        (lambda: confusing_images(LABELS, torch.full((8,), torch.nan), 0.1), "activations must be finite"),
        (lambda: mislabelled_images(LABELS, [0, 2], 2), "noise class is one of the target classes"),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(UserError, match=message):
        call()
