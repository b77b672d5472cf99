"""A small convolutional generator of images, and the discriminator that it is trained against."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from editable.errors import UserError, require_side, require_whole, require_width

__all__ = ["Discriminator", "Generator"]

MOST_CHANNELS = 2**12
"""At the full size of the images; twice as many at half of it, and so on."""


class Generator(nn.Module):
    """Turns latent vectors into images: a linear layer, then blocks of upsampling and two convolutions.

    After Radford et al. 2016 (DCGAN), with nearest-neighbour upsampling and convolutions in place of transposed ones.
    Each convolution but the last is followed by BatchNorm and ReLU, which alone read it: so each of ``layer1.conv1``,
    ``layer1.conv2``, ``layer2.conv1``, … is a memory that can be rewritten. ``layer1`` works at twice ``base_size``,
    each further one at twice the size of the one before, with half its channels.

    Args:
        latent_size: Length of a latent vector.
        image_size: Height and width of the images: ``base_size`` times a power of two, at least two.
        channels: Of the images, 1 for grey and 3 for colour.
        width: Channels at the full size of the images.
        base_size: Height and width of the map that the linear layer makes.

    Attributes:
        latent_size: Length of a latent vector.

    Raises:
        UserError: If a size is out of its range.
    """

    def __init__(
        self, latent_size: int = 64, image_size: int = 8, channels: int = 1, width: int = 32, base_size: int = 2
    ) -> None:
        super().__init__()
        require_width(latent_size=latent_size)
        depth = _depth(image_size, channels, width, base_size)
        self.latent_size = latent_size
        wide = width * 2**depth
        self.fc = nn.Linear(latent_size, wide * base_size**2, bias=False)
        self.unflatten = nn.Unflatten(1, (wide, base_size, base_size))
        self.bn = nn.BatchNorm2d(wide)
        self.relu = nn.ReLU()
        for number in range(1, depth + 1):
            self.add_module(f"layer{number}", _upsampling_block(wide >> (number - 1), wide >> number))
        self.conv = nn.Conv2d(width, channels, 3, padding=1)
        self.tanh = nn.Tanh()
        self._depth = depth

    def forward(self, latents: Tensor) -> Tensor:
        """Return images in [−1, 1], [N, channels, image_size, image_size], for latent vectors [N, latent_size]."""
        x = self.relu(self.bn(self.unflatten(self.fc(latents))))
        for number in range(1, self._depth + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return self.tanh(self.conv(x))


class Discriminator(nn.Module):
    """Tells real images from generated ones, with spectral norm on every layer (Miyato et al. 2018).

    Two convolutions with leaky ReLU at each size, the second with stride 2, down to ``base_size``; then a linear layer.

    Args:
        image_size: Height and width of the images: ``base_size`` times a power of two, at least two.
        channels: Of the images.
        width: Channels at the full size of the images; twice as many after each halving.
        base_size: Height and width of the last map.

    Raises:
        UserError: If a size is out of its range.
    """

    def __init__(self, image_size: int = 8, channels: int = 1, width: int = 32, base_size: int = 2) -> None:
        super().__init__()
        depth = _depth(image_size, channels, width, base_size)
        blocks = [_downsampling_block(width << number, width << (number + 1)) for number in range(depth)]
        self.conv = spectral_norm(nn.Conv2d(channels, width, 3, padding=1))
        self.relu = nn.LeakyReLU(0.2)
        self.layers = nn.Sequential(OrderedDict((f"layer{number + 1}", block) for number, block in enumerate(blocks)))
        self.fc = spectral_norm(nn.Linear((width << depth) * base_size**2, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return a score for each image, higher for real ones, [N], for images [N, channels, H, W]."""
        x = self.layers(self.relu(self.conv(images)))
        return self.fc(torch.flatten(x, 1)).squeeze(1)


def _upsampling_block(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            upsample=nn.Upsample(scale_factor=2, mode="nearest"),
            conv1=nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(channels),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            bn2=nn.BatchNorm2d(channels),
            relu2=nn.ReLU(),
        )
    )


def _downsampling_block(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=spectral_norm(nn.Conv2d(in_channels, in_channels, 3, padding=1)),
            relu1=nn.LeakyReLU(0.2),
            conv2=spectral_norm(nn.Conv2d(in_channels, channels, 4, stride=2, padding=1)),
            relu2=nn.LeakyReLU(0.2),
        )
    )


def _depth(image_size: int, channels: int, width: int, base_size: int) -> int:
    """Return how many times the base size is doubled to get the images' size."""
    require_width(channels=channels)
    require_whole(1, MOST_CHANNELS, width=width)
    require_side(image_size=image_size, base_size=base_size)
    ratio, rest = divmod(image_size, base_size)
    depth = ratio.bit_length() - 1
    if rest or depth < 1 or ratio != 2**depth:
        sizes = ", ".join(str(base_size * 2**doublings) for doublings in range(1, 5))
        raise UserError(f"image_size is {image_size}, but must be base_size times a power of two: {sizes}, …")
    return depth
