"""Residual networks for small images, with torchvision's parameter names."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, conv1x1

from editable.errors import UserError, require_whole, require_width

__all__ = ["cifar_resnet", "cifar_resnet18"]

MOST_CHANNELS = 2**12
"""Of the narrowest layer; the widest has eight times as many."""

MOST_BLOCKS = 1000
"""In one chain: a residual network of 1202 layers in all is the deepest published."""


def cifar_resnet(
    num_classes: int = 10, width: int = 64, layers: Sequence[int] = (2, 2, 2, 2), in_channels: int = 3
) -> nn.Module:
    """Build a residual network of basic blocks for small images (He et al. 2016).

    It differs from torchvision's ``ResNet`` in its stem, a 3×3 convolution with stride 1 and no max pooling, and in
    its free width. Inputs are ``[N, in_channels, H, W]``, logits ``[N, num_classes]``; the four chains ``layer1`` to
    ``layer4`` work at H, H/2, H/4 and H/8.

    Args:
        num_classes: Number of classes.
        width: Channels of the stem and of ``layer1``; each later chain has twice the channels of the one before.
        layers: Number of residual blocks in each of the four chains.
        in_channels: Channels of the input, 3 for colour images.

    Returns:
        The network, with random weights.

    Raises:
        UserError: If a size is not positive, or ``layers`` does not have four entries.
    """
    require_whole(1, MOST_CHANNELS, width=width)
    require_width(num_classes=num_classes, in_channels=in_channels)
    require_whole(1, MOST_BLOCKS, layers=layers)
    if len(layers) != 4:
        raise UserError(f"layers is {list(layers)}, but four positive block counts are needed, such as [2, 2, 2, 2]")
    return CifarResNet(num_classes, width, layers, in_channels)


def cifar_resnet18(num_classes: int = 10, width: int = 64, in_channels: int = 3) -> nn.Module:
    """Build the ResNet-18 for small images: `cifar_resnet` with two blocks in each chain.

    Args:
        num_classes: Number of classes.
        width: Channels of the stem and of ``layer1``; each later chain has twice the channels of the one before.
        in_channels: Channels of the input, 3 for colour images.

    Returns:
        The network, with random weights.

    Raises:
        UserError: If a size is not positive.
    """
    return cifar_resnet(num_classes, width, (2, 2, 2, 2), in_channels)


class CifarResNet(nn.Module):
    """See `cifar_resnet`; torchvision's own class fixes the width, and has no switch for the stem."""

    def __init__(self, num_classes: int, width: int, layers: Sequence[int], in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _chain(width, width, layers[0], stride=1)
        self.layer2 = _chain(width, 2 * width, layers[1], stride=2)
        self.layer3 = _chain(2 * width, 4 * width, layers[2], stride=2)
        self.layer4 = _chain(4 * width, 8 * width, layers[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def _chain(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    """A chain of residual blocks, of which the first changes resolution and channels."""
    downsample = None
    if stride != 1 or in_channels != channels:
        downsample = nn.Sequential(conv1x1(in_channels, channels, stride), nn.BatchNorm2d(channels))
    first = BasicBlock(in_channels, channels, stride, downsample)
    return nn.Sequential(first, *(BasicBlock(channels, channels) for _ in range(blocks - 1)))
