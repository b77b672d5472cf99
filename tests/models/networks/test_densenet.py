"""Densely connected networks for small images: shapes, names, weights by name, and edits at their third block."""

from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser
from safetensors.torch import save_file
from torch import nn
from torchvision.models import DenseNet, densenet169

from editable.errors import UserError
from editable.models import SplitNetwork, cifar_densenet, cifar_densenet169, load_weights


def test_same_state_as_torchvision_but_for_the_stem() -> None:
    with torch.device("meta"):
        ours = {name: value.shape for name, value in cifar_densenet169(num_classes=1000).state_dict().items()}
        theirs = {name: value.shape for name, value in densenet169().state_dict().items()}
    assert ours.pop("features.conv0.weight") == (64, 3, 3, 3)
    assert theirs.pop("features.conv0.weight") == (64, 3, 7, 7)
    assert ours == theirs


def test_computes_what_torchvision_computes_without_its_stem(tmp_path: Path) -> None:
    theirs = DenseNet(growth_rate=4, block_config=(1, 2, 2, 1), num_init_features=6, num_classes=7).eval()
    theirs.features.conv0 = nn.Conv2d(3, 6, 3, padding=1, bias=False)
    theirs.features.pool0 = nn.Identity()
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    ours = cifar_densenet(num_classes=7, growth_rate=4, layers=(1, 2, 2, 1), width=6).eval()
    load_weights(ours, tmp_path / "weights.safetensors")
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_third_block_works_at_a_quarter_of_the_resolution() -> None:
    network = cifar_densenet(num_classes=5, growth_rate=2, layers=[1, 2, 3, 1], width=4, in_channels=1)
    x = torch.randn(3, 1, 32, 32)
    (feature,) = SplitNetwork(network, "denseblock3").prefix(x)
    # stem 4, block 1 adds 2, halved to 3; block 2 adds 2·2, halved to 3
    assert feature.shape == (3, 3, 8, 8)
    assert network(x).shape == (3, 5)


@pytest.mark.parametrize(
    "sizes", [{"num_classes": 0}, {"growth_rate": 0}, {"width": -1}, {"in_channels": 0}, {"layers": (2, 2)}]
)
def test_impossible_sizes(sizes: dict) -> None:
    with pytest.raises(UserError, match=next(iter(sizes))):
        cifar_densenet(**sizes)


@pytest.mark.filterwarnings(r"ignore:\s*(By default only one|``instantiate_classes``)")
def test_named_in_yaml() -> None:
    parser = ArgumentParser()
    parser.add_argument("--network", type=nn.Module)
    sizes = ["--network.width=2", "--network.growth_rate=2", "--network.layers=[1,1,1,1]"]
    config = parser.parse_args(["--network=editable.models.cifar_densenet", *sizes])
    assert parser.instantiate(config).network.classifier.weight.shape == (10, 4)
