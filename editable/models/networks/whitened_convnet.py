"""A plain convolutional network for small images that trains in minutes: its first layer whitens their patches."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from editable.errors import UserError, require_at_least, require_not_negative, require_width

__all__ = ["cifar_whitened_convnet", "whiten_convolution"]

PATCH = 2
"""Side of the patches that are whitened, in pixels."""


def cifar_whitened_convnet(
    num_classes: int = 10, widths: Sequence[int] = (64, 128, 256), in_channels: int = 3
) -> nn.Module:
    """Build a network of few wide layers, after the fastest published recipes for CIFAR-10.

    A convolution of 2×2 patches whose weights are fixed before training (:class:`editable.callbacks.WhitenedFirstLayer`
    sets them, :func:`whiten_convolution` says to what), then chains ``layer1``, ``layer2``, …: a 3×3 convolution and a
    maximum over 2×2 positions, a 3×3 convolution, each with BatchNorm and ReLU; at last the maximum over all positions,
    and ``fc``. Whitened inputs make the first steps of training as good as the later ones, and every layer but the
    first is as wide as the processor likes, so that nine tenths of the time are matrix products (the ideas: Page, 2018;
    Balsam, hlb-CIFAR10, 2023; Jordan, "94 % on CIFAR-10 in 3.29 seconds", 2024, arXiv:2404.00498).

    Args:
        num_classes: Number of classes.
        widths: Channels of each chain.
        in_channels: Channels of the input, 3 for colour images.

    Returns:
        The network, with random weights, from images [N, in_channels, H, W] to logits [N, num_classes]; H and W above
        two to the power of the number of chains.

    Raises:
        UserError: If a size is not positive, or there is no chain.
    """
    require_width(num_classes=num_classes, in_channels=in_channels, widths=widths)
    if not widths:
        raise UserError("widths is empty, but must have the channels of one chain or more, such as [64, 128, 256]")
    return WhitenedConvNet(num_classes, widths, in_channels)


class WhitenedConvNet(nn.Module):
    """See `cifar_whitened_convnet`."""

    def __init__(self, num_classes: int, widths: Sequence[int], in_channels: int) -> None:
        super().__init__()
        channels = 2 * in_channels * PATCH**2  # both signs of each direction
        self.whitening = nn.Conv2d(in_channels, channels, PATCH)
        self.whitening.weight.requires_grad_(False)
        self.relu = nn.ReLU(inplace=True)
        chains = OrderedDict[str, nn.Module]()
        for number, width in enumerate(widths, start=1):
            chains[f"layer{number}"] = _chain(channels, width)
            channels = width
        for name, chain in chains.items():
            self.add_module(name, chain)
        self.chains = tuple(chains)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.whitening(x))
        for name in self.chains:
            x = getattr(self, name)(x)
        return self.fc(torch.flatten(self.pool(x), 1))


def _chain(in_channels: int, channels: int) -> nn.Sequential:
    """Two convolutions; the first one halves the resolution, by a maximum."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            pool=nn.MaxPool2d(2),
            bn1=nn.BatchNorm2d(channels),
            relu1=nn.ReLU(inplace=True),
            conv2=nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            bn2=nn.BatchNorm2d(channels),
            relu2=nn.ReLU(inplace=True),
        )
    )


@torch.no_grad()
def whiten_convolution(layer: nn.Conv2d, patches: Tensor, epsilon: float = 0.0) -> None:
    r"""Set a convolution so that what it computes has as little as possible in common between its channels.

    With the covariance :math:`C = V \Lambda V^\top` of patches p with the mean μ, the first half of the channels are

    .. math:: (\Lambda + \varepsilon)^{-1/2} V^\top (p - \mu),

    whose covariance is the identity where ε = 0, and the second half are the same with the other sign: a ReLU behind
    them loses nothing. Of more directions than there is room for, those that vary most are taken.

    Args:
        layer: The convolution, which is changed in place; its channels out are two for each direction.
        patches: What it is applied to, [n, in_channels · height · width of its kernel], in its kernel's order.
        epsilon: What is added to each variance, so that directions without any are not blown up.

    Raises:
        UserError: If shapes do not fit, a variance with ε is not positive, or ε is negative.
    """
    require_not_negative(epsilon=epsilon)
    size = layer.weight[0].numel()
    directions, odd = divmod(layer.out_channels, 2)
    if layer.bias is None or layer.groups != 1 or odd or not 1 <= directions <= size:
        raise UserError(
            f"{layer} cannot whiten: it needs a bias, one group, and two channels for each of up to {size} directions"
        )
    if patches.ndim != 2 or patches.shape[1] != size:
        raise UserError(f"patches of {layer} have {size} values, got shape {list(patches.shape)}")
    require_at_least(2, number_of_patches=len(patches))
    values = patches.double()
    variances, vectors = torch.linalg.eigh(values.T.cov())
    variances, vectors = variances.flip(0)[:directions] + epsilon, vectors.flip(1)[:, :directions]
    if variances[-1] <= torch.finfo(torch.float64).eps * variances[0]:
        raise UserError(f"the patches do not vary in {directions} directions: give an epsilon above {epsilon:g}")
    rows = (vectors / variances.sqrt()).T
    rows = torch.cat([rows, -rows])
    layer.weight.copy_(rows.reshape(layer.weight.shape))
    layer.bias.copy_(-rows @ values.mean(dim=0))
