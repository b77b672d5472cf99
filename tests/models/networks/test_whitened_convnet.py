"""Few wide layers behind a whitened first one: shapes, the formula of whitening, and what is refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from editable.errors import UserError
from editable.models import SplitNetwork, cifar_whitened_convnet, whiten_convolution


def patches_of(images: torch.Tensor, layer: nn.Conv2d) -> torch.Tensor:
    """All patches, by slicing."""
    height, width = layer.kernel_size
    rows, columns = images.shape[2] - height + 1, images.shape[3] - width + 1
    cut = [images[:, :, y : y + height, x : x + width].flatten(1) for y in range(rows) for x in range(columns)]
    return torch.cat(cut)


def correlated_images(num: int = 40) -> torch.Tensor:
    torch.manual_seed(0)
    noise = torch.randn(num, 3, 12, 12, dtype=torch.float64)
    return functional.avg_pool2d(noise, 3, stride=1) * torch.tensor([1.0, 3.0, 0.2]).view(3, 1, 1) + 0.7


def test_shapes():
    network = cifar_whitened_convnet(num_classes=7, widths=[4, 6], in_channels=1)
    assert network(torch.randn(5, 1, 9, 11)).shape == (5, 7)
    assert network.whitening.weight.shape == (8, 1, 2, 2)
    assert [network.get_submodule(f"layer{n}.conv2").weight.shape[0] for n in (1, 2)] == [4, 6]
    assert network.fc.weight.shape == (7, 6)


def test_resolution_is_halved_by_each_chain():
    network, sizes = cifar_whitened_convnet(widths=[4, 5, 6]), {}
    for name in ("whitening", "layer1", "layer2", "layer3"):
        network.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: sizes.update({name: list(out.shape)})
        )
    network(torch.randn(2, 3, 32, 32))
    assert sizes == {
        "whitening": [2, 24, 31, 31],
        "layer1": [2, 4, 15, 15],
        "layer2": [2, 5, 7, 7],
        "layer3": [2, 6, 3, 3],
    }


def test_only_the_first_weight_is_fixed():
    network = cifar_whitened_convnet()
    assert [name for name, param in network.named_parameters() if not param.requires_grad] == ["whitening.weight"]


def test_outputs_on_the_patches_have_the_identity_as_covariance():
    images = correlated_images()
    layer = cifar_whitened_convnet().double().whitening
    whiten_convolution(layer, patches_of(images, layer))
    out = layer(images).transpose(0, 1).flatten(1).detach()
    half = len(out) // 2
    torch.testing.assert_close(out[:half].cov(), torch.eye(half, dtype=torch.float64))
    torch.testing.assert_close(out.mean(dim=1), torch.zeros(len(out), dtype=torch.float64))
    torch.testing.assert_close(out[half:], -out[:half])


def test_what_is_added_to_variances():
    """The variance of a direction λ becomes λ / (λ + ε), in the order of the λ."""
    images = correlated_images()
    layer = cifar_whitened_convnet().double().whitening
    patches = patches_of(images, layer)
    whiten_convolution(layer, patches, epsilon=0.1)
    variances = torch.linalg.svdvals(patches - patches.mean(dim=0)) ** 2 / (len(patches) - 1)
    out = layer(images).transpose(0, 1).flatten(1).detach()[: len(variances)]
    torch.testing.assert_close(out.cov(), torch.diag(variances / (variances + 0.1)))


def test_fewer_directions_are_those_that_vary_most():
    """One direction: the first principal component, from the singular vectors."""
    images = correlated_images()
    layer = nn.Conv2d(3, 2, 2, dtype=torch.float64)
    patches = patches_of(images, layer)
    whiten_convolution(layer, patches)
    first = torch.linalg.svd(patches - patches.mean(dim=0), full_matrices=False)[2][0]
    cosine = functional.cosine_similarity(layer.weight[0].flatten(), first, dim=0).abs().item()
    assert cosine == pytest.approx(1)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(3, 26, 2), nn.Conv2d(3, 5, 2), nn.Conv2d(3, 6, 2, bias=False), nn.Conv2d(3, 6, 2, groups=3)],
)
def test_layers_that_cannot_whiten(layer: nn.Conv2d):
    with pytest.raises(UserError, match="cannot whiten: it needs a bias, one group, and two channels"):
        whiten_convolution(layer, torch.randn(50, layer.weight[0].numel()))


def test_patches_that_cannot_be_meant():
    layer = cifar_whitened_convnet().whitening
    before = layer.weight.clone()
    with pytest.raises(UserError, match=r"have 12 values, got shape \[50, 27\]"):
        whiten_convolution(layer, torch.randn(50, 27))
    with pytest.raises(UserError, match="do not vary in 12 directions: give an epsilon above 0"):
        whiten_convolution(layer, torch.randn(50, 1).expand(50, 12))
    with pytest.raises(UserError, match="number_of_patches"):
        whiten_convolution(layer, torch.randn(1, 12))
    with pytest.raises(UserError, match="epsilon"):
        whiten_convolution(layer, torch.randn(50, 12), epsilon=-1.0)
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize(
    "sizes", [{"num_classes": 0}, {"widths": []}, {"widths": [4, 0]}, {"in_channels": -3}, {"widths": [2.5]}]
)
def test_impossible_sizes(sizes: dict):
    with pytest.raises(UserError, match=next(iter(sizes))):
        cifar_whitened_convnet(**sizes)


@pytest.mark.parametrize("layer", ["layer3", "layer2", "fc"])
def test_is_split_at_a_layer(layer: str):
    network = cifar_whitened_convnet(widths=[4, 5, 6]).double().eval()
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    split = SplitNetwork(network, [layer])
    logits = split.edit_suffix(split.edit_prefix(images), split.params)
    torch.testing.assert_close(logits, network(images))
