"""Densely connected networks for small images, with torchvision's parameter names."""

from collections.abc import Sequence

from torch import nn
from torchvision.models import DenseNet

from editable.errors import UserError, require_whole, require_width

__all__ = ["cifar_densenet", "cifar_densenet169"]

MOST_CHANNELS = 2**12
"""Of the stem, and of what each layer adds."""

MOST_BLOCKS = 1000
"""Layers in one block."""


def cifar_densenet(
    num_classes: int = 10,
    growth_rate: int = 32,
    layers: Sequence[int] = (6, 12, 32, 32),
    width: int = 64,
    in_channels: int = 3,
) -> nn.Module:
    """Build a densely connected network for small images (Huang et al. 2017).

    It is torchvision's ``DenseNet`` with another stem, a 3×3 convolution with stride 1 and no max pooling. Inputs are
    ``[N, in_channels, H, W]``, logits ``[N, num_classes]``; the four dense blocks ``features.denseblock1`` to
    ``features.denseblock4`` work at H, H/2, H/4 and H/8.

    Args:
        num_classes: Number of classes.
        growth_rate: Channels that each layer adds to those that it reads.
        layers: Number of layers in each of the four dense blocks.
        width: Channels of the stem.
        in_channels: Channels of the input, 3 for colour images.

    Returns:
        The network, with random weights.

    Raises:
        UserError: If a size is not positive, or ``layers`` does not have four entries.
    """
    require_width(num_classes=num_classes, in_channels=in_channels)
    require_whole(1, MOST_CHANNELS, growth_rate=growth_rate, width=width)
    require_whole(1, MOST_BLOCKS, layers=layers)
    if len(layers) != 4:
        raise UserError(f"layers is {list(layers)}, but four positive layer counts are needed, such as [6, 12, 32, 32]")
    first, second, third, fourth = layers
    network = DenseNet(growth_rate, (first, second, third, fourth), width, num_classes=num_classes)
    network.features.conv0 = nn.Conv2d(in_channels, width, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.features.conv0.weight)
    del network.features.pool0
    return network


def cifar_densenet169(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build the DenseNet-169 for small images: `cifar_densenet` with 6, 12, 32 and 32 layers and growth rate 32.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the input, 3 for colour images.

    Returns:
        The network, with random weights.

    Raises:
        UserError: If a size is not positive.
    """
    return cifar_densenet(num_classes, in_channels=in_channels)
