"""Distances of images as they look: the stand-in against a plain implementation, LPIPS against torchmetrics' own."""

import re
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

from editable.errors import UserError
from editable.rewriting.inverse.perceptual_distance import PerceptualDistanceStandin, load_lpips, perceptual_distance
from tests.rewriting.problems import ConvNet, Untouched, conv_network, random

SHAPE = (3, 8, 8)
FIRST, SECOND = random(4, *SHAPE, seed=0).sigmoid(), random(4, *SHAPE, seed=1).sigmoid()


def normalise(images: Tensor) -> Tensor:
    return (images - 0.4) / 0.3


def outputs(network: ConvNet, images: Tensor) -> dict[str, Tensor]:
    """What the network's children put out, in evaluation mode, written out."""
    network.eval()
    with torch.no_grad():
        first = network.first(normalise(images))
        x = network.relu(network.bn1(first))
        second = network.second(x)
        x = x + network.relu(network.bn2(second))
        third = network.third(x)
    return {"first": first, "second": second, "third": third}


def plain(network: ConvNet, first: Tensor, second: Tensor, layers: tuple[str, ...]) -> Tensor:
    """Mean over layers and positions of the squared distance of unit vectors, in loops."""
    distances = []
    for a, b in zip(first, second, strict=True):
        ours, theirs = outputs(network, a[None]), outputs(network, b[None])
        total = 0.0
        for layer in layers:
            one, other = ours[layer][0].flatten(1).T, theirs[layer][0].flatten(1).T
            squares = [((p / p.norm() - q / q.norm()) ** 2).sum() for p, q in zip(one, other, strict=True)]
            total += float(torch.stack(squares).mean()) / len(layers)
        distances.append(total)
    return torch.tensor(distances, dtype=torch.float64)


def test_the_stand_in_is_its_formula():
    network = conv_network()
    standin = PerceptualDistanceStandin(network, SHAPE, normalise, ["second", "third"])
    with torch.no_grad(), Untouched(network):
        found = standin(FIRST, SECOND)
        same = standin(FIRST, FIRST)
    torch.testing.assert_close(found, plain(network, FIRST, SECOND, ("second", "third")))
    assert same.tolist() == [0] * 4
    assert (found > 0).all()


def test_by_default_the_last_child_of_each_size_of_map_is_taken():
    network = conv_network().eval()
    assert PerceptualDistanceStandin(network, SHAPE).layers == ["bn2", "third"]
    blocks = nn.ModuleList([nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3)])

    class Stages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks, self.head = blocks, nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = block(x)
            return self.head(x.mean((2, 3)))

    assert PerceptualDistanceStandin(Stages(), SHAPE).layers == ["blocks.1"], "1×1 maps have no place"


@pytest.mark.parametrize(
    ("network", "layers", "message"),
    [
        (conv_network(), ["fifth"], "ConvNet has no layer 'fifth': its children are first, bn1, second"),
        (conv_network(), ["second", "head"], r"'head' puts out no map \[N, c, h, w\]"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).double(), None, "none of Sequential's children puts out a map"),
    ],
)
def test_layers_that_give_no_map_are_refused(network, layers, message):
    with pytest.raises(UserError, match=message):
        PerceptualDistanceStandin(network, SHAPE, layers=layers)


@pytest.fixture
def random_alexnet(monkeypatch: pytest.MonkeyPatch) -> None:
    """AlexNet of random weights in place of the download."""
    original = torchvision.models.alexnet

    def untrained(weights: object = None, **settings: object) -> nn.Module:
        torch.manual_seed(0)
        return original(weights=None)

    monkeypatch.setattr(torchvision.models, "alexnet", untrained)


@pytest.fixture
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object, **settings: object) -> nn.Module:
        raise URLError("no connection")

    for name in ("alexnet", "vgg16", "squeezenet1_1"):
        monkeypatch.setattr(torchvision.models, name, refused)


@pytest.mark.usefixtures("random_alexnet")
@pytest.mark.parametrize("channels", [1, 3])
def test_lpips_is_that_of_torchmetrics(channels: int):
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 2, channels, 32, 32, generator=generator)
    distance = perceptual_distance("auto", conv_network(), (channels, 32, 32), normalise)
    assert (distance.name, distance.description) == ("lpips", "LPIPS (alex)")
    found = distance.distance(first.double(), second.double())
    for item in range(2):
        pair = (some[item : item + 1].expand(1, 3, 32, 32) for some in (first, second))
        expected = learned_perceptual_image_patch_similarity(*pair, net_type="alex", normalize=True)
        torch.testing.assert_close(found[item].detach(), expected.detach())


@pytest.mark.usefixtures("random_alexnet")
def test_images_that_are_too_small_for_lpips_are_refused():
    with pytest.raises(UserError, match="images 3 × 4 × 4 are too small for LPIPS with alex"):
        load_lpips("alex", (3, 4, 4))


@pytest.mark.usefixtures("no_connection")
def test_without_weights_a_stand_in_takes_its_place_and_is_called_so():
    network = conv_network()
    with pytest.warns(UserWarning, match=r"LPIPS with alex cannot be had \(.*no connection.*: a stand-in takes"):
        distance = perceptual_distance("auto", network, SHAPE, normalise)
    assert distance.name == "standin"
    assert re.search(r"stand-in for LPIPS.*\(bn2, third\)", distance.description)


@pytest.mark.usefixtures("no_connection")
@pytest.mark.parametrize("net", ["alex", "vgg", "squeeze"])
def test_lpips_that_is_asked_for_by_name_is_not_replaced(net: str):
    with pytest.raises(UserError, match=f"the weights of LPIPS with {net} cannot be had"):
        perceptual_distance(net, conv_network(), SHAPE, normalise)


def test_another_kind_is_refused():
    with pytest.raises(UserError, match="must be one of auto, alex, vgg, squeeze, standin, got 'ssim'"):
        perceptual_distance("ssim", conv_network(), SHAPE, normalise)
