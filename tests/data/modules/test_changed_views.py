"""Images changed in five ways: of the stored image, inside its range, and each decided by seed and position alone."""

import pytest
import torch
from torch.utils.data import TensorDataset

from editable.data import DigitsDataModule
from editable.data.images.images import ArrayImages
from editable.data.modules.changed_views import CHANGES, ChangedViews
from editable.data.modules.image_data_module import EvaluationImages
from editable.errors import UserError

MEAN, STD = 0.4, 0.2


class Normalise(torch.nn.Module):
    def forward(self, image):
        image = image.float() / 255 if image.dtype == torch.uint8 else image
        return (image - MEAN) / STD


@pytest.fixture
def images() -> torch.Tensor:
    """Smooth pictures of three colours, uint8, whose left half is dark."""
    steps = torch.linspace(0, 1, 16)
    picture = torch.stack([steps.expand(16, 16), steps.expand(16, 16).T, (steps + steps[:, None]) / 2])
    return (torch.stack([picture, picture.flip(1), picture.flip(0)]) * 200 + 20).to(torch.uint8)


def stored(images: torch.Tensor) -> EvaluationImages:
    return EvaluationImages(ArrayImages(images, torch.arange(len(images))), torch.nn.Identity(), Normalise())


def test_each_change_is_what_it_says(images):
    dataset = stored(images)
    changed = dict(zip(CHANGES, (ChangedViews(dataset)[0] * STD + MEAN), strict=True))
    image = images[0].float() / 255
    assert all(some.shape == image.shape for some in changed.values())
    brighter = changed["brightness"]
    assert (brighter >= image - 0.01).all()
    assert brighter.mean() > image.mean() + 0.05
    inner = (slice(None), slice(2, -2), slice(2, -2))
    steps = (image.diff(dim=1)[inner].abs().mean(), changed["blur"].diff(dim=1)[inner].abs().mean())
    assert steps[1] <= steps[0] + 1e-3
    noise = changed["noise"] - image
    assert 0.005 < noise.std() < 0.2
    assert noise.mean().abs() < 0.03
    turned = (changed["rotation"] - image)[:, 6:10, 6:10].abs().mean()  # little in the middle, more outside
    assert turned < (changed["rotation"] - image).abs().mean()
    packed = (changed["jpeg"] - image).abs()
    assert 0 < packed.mean() < 0.1


def test_they_stay_in_the_range_of_images(images):
    changed = ChangedViews(stored(images))[1] * STD + MEAN
    assert changed.min() >= -1e-6
    assert changed.max() <= 1 + 1e-6


def test_a_change_depends_on_seed_and_position_alone(images):
    views = ChangedViews(stored(images), seed=3)
    state = torch.random.get_rng_state()
    third, first = views[2], views[0]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(ChangedViews(stored(images), seed=3)[2], third)
    assert torch.equal(views[0], first)
    other = ChangedViews(stored(images), seed=4)[0]
    noise = CHANGES.index("noise")
    assert not torch.equal(other[noise], first[noise])
    for name in ("brightness", "blur", "jpeg"):
        assert torch.equal(other[CHANGES.index(name)], first[CHANGES.index(name)])


def test_digits_and_other_data_sets():
    data = DigitsDataModule()
    data.setup("test")
    views = ChangedViews(data.test_dataset)
    assert len(views) == len(data.test_dataset)
    assert views[0].shape == (5, 1, 8, 8)
    plain = TensorDataset(torch.randn(2, 2, 6, 6).double(), torch.zeros(2))
    assert ChangedViews(plain)[1].shape == (5, 2, 6, 6)
    assert ChangedViews(plain)[1].isfinite().all()


def test_inputs_that_are_no_images():
    with pytest.raises(UserError, match=r"images \[C, H, W\], got inputs of shape \[3\]"):
        ChangedViews(TensorDataset(torch.zeros(2, 3), torch.zeros(2)))
