"""Where edits are made: reference images in the network's precision, and their features, run once."""

import pytest
import torch
from torch import Tensor, nn

from editable.editing import EditSite
from editable.errors import UserError
from editable.models import SplitNetwork

IMAGES = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(7) % 2


class Scene:
    """A site on a small network, and how many reference images were asked for."""

    def __init__(self, number: int = 7) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        self.asked: list[int] = []
        self.number = number
        self.site = EditSite(SplitNetwork(self.network, "2"), self.references)

    def references(self, number: int) -> list[tuple[Tensor, Tensor]]:
        self.asked.append(number)
        number = min(number, self.number)
        return list(zip(IMAGES[:number].split(3), LABELS[:number].split(3), strict=True)) if number else []


@pytest.mark.parametrize(("number", "sizes"), [(2, [2]), (5, [3, 2]), (100, [3, 3, 1])])
def test_images_are_in_the_precision_of_the_network(number: int, sizes: list[int]) -> None:
    batches = list(Scene().site.image_batches(number))
    assert [len(labels) for _, labels in batches] == sizes
    images, labels = map(torch.cat, zip(*batches, strict=True))
    assert torch.equal(images, IMAGES[:number].double())
    assert torch.equal(labels, LABELS[:number])


def test_features_are_run_once_for_each_number() -> None:
    scene = Scene()
    for number in (5, 2, 5, 2, 5):
        (features,), labels = scene.site.features(number)
        expected = scene.network[:2](IMAGES[:number].double()).detach()
        torch.testing.assert_close(features, expected)
        assert not features.requires_grad
        assert torch.equal(labels, LABELS[:number])
    assert scene.asked == [5, 2]
    ((first,), _), *_ = scene.site.feature_batches(5)
    torch.testing.assert_close(first, scene.network[:2](IMAGES[:3].double()).detach())


def test_without_reference_images() -> None:
    site = Scene(number=0).site
    for asked in (site.features, lambda number: list(site.image_batches(number))):
        with pytest.raises(UserError, match=r"needs reference images .* and there are none"):
            asked(3)
