"""The generator and the discriminator: shapes, ranges, layers that can be rewritten."""

import pytest
import torch
from torch import nn

from editable.errors import UserError
from editable.models import Discriminator, Generator
from editable.rewriting import LayerBlock


@pytest.mark.parametrize(
    ("image_size", "channels", "base_size", "layers"), [(8, 1, 2, 2), (16, 3, 4, 2), (32, 3, 4, 3), (12, 1, 6, 1)]
)
def test_images_of_any_size_that_doubles_from_the_base(image_size: int, channels: int, base_size: int, layers: int):
    torch.manual_seed(0)
    sizes = {"image_size": image_size, "channels": channels, "width": 2, "base_size": base_size}
    generator, discriminator = Generator(latent_size=5, **sizes), Discriminator(**sizes)
    images = generator(torch.randn(3, 5))
    assert images.shape == (3, channels, image_size, image_size)
    assert images.abs().max() <= 1
    assert discriminator(images).shape == (3,)
    assert f"layer{layers}" in dict(generator.named_children())
    assert f"layer{layers + 1}" not in dict(generator.named_children())


def test_every_convolution_but_the_last_is_a_block_with_batchnorm_and_relu():
    network = Generator(latent_size=5, image_size=8, width=2)
    convolutions = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    assert convolutions == ["layer1.conv1", "layer1.conv2", "layer2.conv1", "layer2.conv2", "conv"]
    for name in convolutions[:-1]:
        layer, number = name[:-1].rsplit(".", 1)[0], name[-1]
        assert LayerBlock(network, name).stages == (name, f"{layer}.bn{number}", f"{layer}.relu{number}")
    assert LayerBlock(network, "conv").stages == ("conv", "tanh")


def test_every_layer_of_the_discriminator_has_spectral_norm_one():
    torch.manual_seed(0)
    discriminator = Discriminator(width=4)
    for _ in range(60):  # each call in training mode is one step of the power iteration
        discriminator(torch.zeros(1, 1, 8, 8))
    layers = [module for module in discriminator.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == 6
    for layer in layers:
        torch.testing.assert_close(
            torch.linalg.matrix_norm(layer.weight.flatten(1), 2), torch.tensor(1.0), atol=1e-3, rtol=0
        )


@pytest.mark.parametrize("image_size", [2, 7, 12])
def test_sizes_that_cannot_be_reached(image_size: int):
    message = f"image_size is {image_size}, but must be base_size times a power of two: 4, 8, 16, 32"
    for network in (Generator, Discriminator):
        with pytest.raises(UserError, match=message):
            network(image_size=image_size)


def test_sizes_of_zero():
    with pytest.raises(UserError, match="width must be at least 1, got 0"):
        Generator(width=0)
    with pytest.raises(UserError, match="latent_size must be at least 1, got 0"):
        Generator(latent_size=0)
    with pytest.raises(UserError, match="channels must be at least 1, got 0"):
        Discriminator(channels=0)
