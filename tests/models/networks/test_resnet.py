"""Residual networks for small images: shapes, names and construction from YAML."""

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn
from torchvision.models import resnet18

from editable.errors import UserError
from editable.models import cifar_resnet, cifar_resnet18


def test_same_state_as_torchvision_but_for_the_stem() -> None:
    ours = {name: value.shape for name, value in cifar_resnet18(num_classes=1000).state_dict().items()}
    theirs = {name: value.shape for name, value in resnet18().state_dict().items()}
    assert ours.pop("conv1.weight") == (64, 3, 3, 3)
    assert theirs.pop("conv1.weight") == (64, 3, 7, 7)
    assert ours == theirs


def test_computes_what_torchvision_computes() -> None:
    ours, theirs = cifar_resnet18(num_classes=7).eval(), resnet18(num_classes=7).eval()
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_widths_and_depths() -> None:
    network = cifar_resnet(num_classes=5, width=4, layers=[1, 2, 3, 1], in_channels=1)
    assert [len(getattr(network, f"layer{chain}")) for chain in (1, 2, 3, 4)] == [1, 2, 3, 1]
    assert network.get_submodule("layer4.0.conv1").weight.shape == (32, 16, 3, 3)
    assert network(torch.randn(3, 1, 8, 8)).shape == (3, 5)


@pytest.mark.parametrize("sizes", [{"num_classes": 0}, {"width": -1}, {"in_channels": 0}, {"layers": (2, 2)}])
def test_impossible_sizes(sizes: dict) -> None:
    with pytest.raises(UserError, match=next(iter(sizes))):
        cifar_resnet(**sizes)


@pytest.mark.filterwarnings(r"ignore:\s*(By default only one|``instantiate_classes``)")
def test_named_in_yaml() -> None:
    parser = ArgumentParser()
    parser.add_argument("--network", type=nn.Module)
    config = parser.parse_args(["--network=editable.models.cifar_resnet18", "--network.width=4"])
    network = parser.instantiate(config).network
    assert network.fc.weight.shape == (10, 32)
