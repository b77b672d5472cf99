"""Views are made as training images are: from the stored image, then normalised; each fixed by seed, view and index."""

import pytest
import torch
from torch.utils.data import TensorDataset

from editable.data import AugmentedViews, DigitsDataModule
from editable.data.images.images import ArrayImages
from editable.data.modules.image_data_module import EvaluationImages
from editable.errors import UserError

MEAN, STD = 0.4, 0.2


class Normalise(torch.nn.Module):
    def forward(self, image):
        return (image.double() / 255 - MEAN) / STD


def stored_images(number=5, size=8):
    images = torch.randint(1, 256, (number, 3, size, size), generator=torch.Generator().manual_seed(0))
    return images.to(torch.uint8)


def windows(image, padding, flips):
    """All crops of the padded image that have the image's size, by slicing."""
    size = image.shape[-1]
    padded = torch.nn.functional.pad(image, [padding] * 4)
    steps = range(2 * padding + 1)
    crops = [padded[:, y : y + size, x : x + size] for y in steps for x in steps]
    return crops + [crop.flip(-1) for crop in crops if flips]


@pytest.mark.parametrize(("augmentation", "padding", "flips"), [("shift", 1, False), ("crop_flip", 4, True)])
def test_stored_images_are_augmented_before_they_are_normalised(augmentation, padding, flips):
    images = stored_images()
    dataset = EvaluationImages(ArrayImages(images, torch.arange(5)), torch.nn.Identity(), Normalise())
    views = AugmentedViews(dataset, 40, augmentation)
    assert len(views) == 5
    for index in (0, 3):
        allowed = [Normalise()(window) for window in windows(images[index], padding, flips)]
        found = [next(i for i, window in enumerate(allowed) if torch.equal(view, window)) for view in views[index]]
        assert len(set(found)) > 5


def test_images_of_another_data_set_are_padded_with_zeros_as_they_are():
    images = Normalise()(stored_images())
    views = AugmentedViews(TensorDataset(images, torch.arange(5), torch.arange(5)), 20, "shift")[2]
    allowed = windows(images[2], 1, flips=False)
    assert views.shape == (20, 3, 8, 8)
    assert all(any(torch.equal(view, window) for window in allowed) for view in views)


def test_larger_stored_images_are_cropped_at_random_scale():
    resize = torch.nn.AvgPool2d(2)
    images = torch.rand(2, 1, 12, 12)
    dataset = EvaluationImages(ArrayImages(images, torch.arange(2)), resize, torch.nn.Identity())
    assert AugmentedViews(dataset, 3, "resized_crop_flip")[0].shape == (3, 1, 6, 6)
    torch.testing.assert_close(AugmentedViews(dataset, 2, "none")[1], resize(images[1]).expand(2, -1, -1, -1))


def test_a_view_depends_on_seed_number_and_index_alone():
    images = torch.ones(4, 1, 8, 8).cumsum(-1).cumsum(-2)
    dataset = TensorDataset(images, torch.zeros(4))
    views = AugmentedViews(dataset, 6)
    state = torch.random.get_rng_state()
    third, first = views[3], views[0]
    assert torch.equal(torch.random.get_rng_state(), state)
    again = AugmentedViews(dataset, 4)
    assert torch.equal(again[0], first[:4])
    assert torch.equal(again[3], third[:4])
    assert not torch.equal(first, third)
    assert not torch.equal(AugmentedViews(dataset, 6, seed=1)[0], first)


def test_views_of_digits_are_training_images_of_the_same_seed():
    """The stored test images, taken as training images of epoch v, are view v."""
    data = DigitsDataModule()
    data.setup("test")
    data.setup("fit")
    views = AugmentedViews(data.test_dataset, 2, data.augmentation, data.seed)
    data.train_dataset.images = data.test_dataset.images
    for view in (0, 1):
        torch.testing.assert_close(views[7][view], data.train_dataset[view, 7][0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"num_views": 0}, "num_views must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"augmentation": "mixup"}, "'mixup' is unknown"),
    ],
)
def test_out_of_range(bad, message):
    with pytest.raises(UserError, match=message):
        AugmentedViews(TensorDataset(torch.zeros(2, 1, 4, 4), torch.zeros(2)), **bad)


def test_inputs_that_are_no_images():
    with pytest.raises(UserError, match=r"made of images \[C, H, W\], got inputs of shape \[7\]"):
        AugmentedViews(TensorDataset(torch.zeros(2, 7), torch.zeros(2)))
