"""Small rewrite problems in float64 for the tests of the solvers, and what a solver must leave alone."""

import copy

import torch
from torch import nn

from editable.rewriting.keys.exemplars import Exemplars
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.inverse_moment import InverseMoment, Regularisation
from editable.rewriting.memory.memory import make_memory

EXACT = Regularisation(epsilon=0.0)


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_moment(size: int, seed: int = 0) -> torch.Tensor:
    """A second moment with eigenvalues over two decades."""
    basis = torch.linalg.qr(random(size, size, seed=seed)).Q
    return (basis * torch.logspace(-1, 1, size, dtype=torch.float64)) @ basis.T


def linear_problem(num_rules: int = 1, rank: int = 1, seed: int = 0, scale: float = 1.0) -> RewriteProblem:
    """A linear layer [6, 8], alone: one exemplar of one vector for each rule."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(8, 6)).double()
    block = LayerBlock(network, "0")
    exemplars = Exemplars(
        inputs=random(num_rules, 8, seed=seed + 1),
        target_inputs=random(num_rules, 8, seed=seed + 2),
        mask=torch.ones(num_rules, 1, 1, dtype=torch.float64),
        rules=torch.arange(num_rules),
    )
    memory = make_memory(block.weight.shape, block.geometry)
    inverse = InverseMoment(scale * random_moment(8, seed), EXACT)
    return RewriteProblem(block, memory, exemplars, inverse, rank)


class ConvNet(nn.Module):
    """Two blocks of convolution, BatchNorm and ReLU with a residual branch around the second, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.third = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.first(x)))
        x = x + self.relu(self.bn2(self.second(x)))
        return self.head(self.relu(self.third(x)).mean((2, 3)))


def conv_network(seed: int = 0) -> ConvNet:
    """The network in training mode, with BatchNorm's statistics, scale and shift away from their defaults."""
    torch.manual_seed(seed)
    network = ConvNet().double()
    for module in (network.bn1, network.bn2):
        module.running_mean.uniform_(-0.5, 0.5)
        module.running_var.uniform_(0.5, 2.0)
        nn.init.uniform_(module.weight, 0.5, 1.5)
        nn.init.uniform_(module.bias, -0.2, 0.5)
    return network


def conv_problem(architecture: str = "pixel", rank: int = 1, seed: int = 0, **others) -> RewriteProblem:
    """The second block of `ConvNet` [4, 4, 3, 3]: three exemplars of 6×6 pixels, with images and labels."""
    network = conv_network(seed)
    block = LayerBlock(network, "second")
    images, target_images = random(3, 3, 6, 6, seed=seed + 1), random(3, 3, 6, 6, seed=seed + 2)
    mask = torch.zeros(3, 6, 6, dtype=torch.float64)
    mask[:, 2:5, 1:4] = 1.0
    with torch.no_grad():
        exemplars = Exemplars(block.inputs(images), block.inputs(target_images), mask)
        keys = block.inputs(random(20, 3, 6, 6, seed=seed + 3))
    memory = make_memory(block.weight.shape, block.geometry, architecture)
    columns = memory.keys(keys).transpose(0, 1).flatten(1)
    inverse = InverseMoment(columns @ columns.T / columns.shape[1], EXACT)
    others = {"images": images, "labels": torch.tensor([0, 2, 1])} | others
    return RewriteProblem(block, memory, exemplars, inverse, rank, **others)


class Untouched:
    """Checks, at the end of a ``with`` block, that values, buffers, modes and gradients of a network are as before."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __enter__(self) -> None:
        self.state = copy.deepcopy(self.network.state_dict())
        self.modes = [module.training for module in self.network.modules()]
        self.needs = [parameter.requires_grad for parameter in self.network.parameters()]

    def __exit__(self, *error: object) -> None:
        state = self.network.state_dict()
        assert state.keys() == self.state.keys()
        for name, tensor in state.items():
            assert torch.equal(tensor, self.state[name]), name
        assert [module.training for module in self.network.modules()] == self.modes
        assert [parameter.requires_grad for parameter in self.network.parameters()] == self.needs
        assert all(parameter.grad is None for parameter in self.network.parameters())
        assert not any(module._forward_pre_hooks or module._forward_hooks for module in self.network.modules())
