"""Random tensors, and networks whose BatchNorm is not a fresh one, for the tests of models."""

import torch
from torch import Tensor, nn


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def settled(network: nn.Module) -> nn.Module:
    """In float64, with statistics and scales that a fresh BatchNorm does not have."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 2),
                (module.weight, 0.5, 2),
                (module.bias, -0.2, 0.2),
            ):
                if tensor is not None:
                    tensor.data.uniform_(low, high, generator=generator)
    return network.double()
