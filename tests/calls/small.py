"""A small classifier that is right most of the time, and images of three kinds with a little noise."""

import torch
from torch import Tensor, nn

CLASSES = ["cat", "dog", "truck"]


def images(number: int, seed: int = 0, noise: float = 0.9) -> tuple[Tensor, Tensor]:
    """Images [N, 3, 8, 8] of one of three patterns each, and labels [N]."""
    patterns = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (number,), generator=generator)
    return patterns[labels] * 0.25 + noise * torch.randn(number, 3, 8, 8, generator=generator), labels


def classifier(seed: int = 0) -> nn.Sequential:
    """A convolution, a hidden layer and a linear one, trained for a moment."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 16), nn.ReLU(), nn.Linear(16, 3)
    )
    x, y = images(600, seed=1)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def mistakes(network: nn.Module, x: Tensor, y: Tensor) -> list[int]:
    """Positions of images that the network gets wrong."""
    return (network(x).argmax(dim=1) != y).nonzero().flatten().tolist()
