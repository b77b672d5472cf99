"""A generator with two planted concepts, for the tests of rewriting generators."""

import torch
from torch import nn

from editable.models import NormalLatents
from editable.rewriting.keys.paste_problem import PasteRule
from editable.rewriting.keys.selections import Selection
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.inverse_moment import InverseMoment, Regularisation
from editable.rewriting.memory.memory import Architecture, Memory, make_memory
from editable.rewriting.memory.moment_collection import collect_second_moment
from editable.rewriting.memory.second_moment import SecondMoment

SIZE = 6
FIRST, SECOND = (1, 1), (4, 3)
"""Where the layer reads the first concept, in channel 0, and the second, in channel 1."""


class Planted(nn.Module):
    """From four numbers to a grey image: the first and second draw a spot each if positive, the rest a background."""

    latent_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4 * SIZE * SIZE)
        self.unflatten = nn.Unflatten(1, (4, SIZE, SIZE))
        self.relu0 = nn.ReLU()
        self.conv = nn.Conv2d(4, 5, 3, padding=1)
        self.bn = nn.BatchNorm2d(5)
        self.relu = nn.ReLU()
        self.out = nn.Conv2d(5, 1, 3, padding=1)
        self.tanh = nn.Tanh()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.tanh(self.out(self.relu(self.bn(self.conv(self.relu0(self.unflatten(self.fc(z))))))))


def planted(seed: int = 0) -> Planted:
    """The generator in float64 and training mode, with random convolutions and statistics of BatchNorm."""
    torch.manual_seed(seed)
    network = Planted().double()
    with torch.no_grad():
        weight = 0.05 * torch.randn(4, SIZE, SIZE, 4, dtype=torch.float64)
        weight[:2] = 0
        weight[0, FIRST[0], FIRST[1], 0] = 1
        weight[1, SECOND[0], SECOND[1], 1] = 1
        network.fc.weight.copy_(weight.reshape(-1, 4))
        network.fc.bias.copy_(torch.tensor([0, 0, 0.2, 0.3]).repeat_interleave(SIZE * SIZE))
        network.bn.running_mean.uniform_(-0.2, 0.2)
        network.bn.running_var.uniform_(0.5, 1.5)
        network.bn.bias.uniform_(0.5, 1.0)  # most units on, so that a change is seen
    return network


def spot(position: tuple[int, int], number: int = 1) -> torch.Tensor:
    """A mask of one pixel for each of some images."""
    mask = torch.zeros(number, SIZE, SIZE)
    mask[:, position[0], position[1]] = 1
    return mask


def with_concept(channel: int, number: int, seed: int = 0) -> torch.Tensor:
    """The first latent vectors of a seed that show the first or the second concept clearly, and not the other."""
    drawn = NormalLatents(4)(400, seed)
    return drawn[(drawn[:, channel] > 1) & (drawn[:, 1 - channel] < 0)][:number]


def planted_rule() -> PasteRule:
    """Where the network draws the first concept, it shall draw the second."""
    return PasteRule(
        Selection(with_concept(1, 1), spot(SECOND)),
        Selection(with_concept(0, 2), spot(FIRST, 2)),
        Selection(with_concept(0, 5), spot(FIRST, 5)),
    )


def parts_of(network: nn.Module, architecture: Architecture = "pixel") -> tuple[LayerBlock, Memory, SecondMoment]:
    """Block, memory and second moment of the rewritten layer."""
    block = LayerBlock(network, "conv")
    memory = make_memory(tuple(block.weight.shape), block.geometry, architecture)
    latents = NormalLatents(4)(300, 77).double()
    return block, memory, collect_second_moment(block, memory, latents.split(100))


def inverse_of(moment: SecondMoment) -> InverseMoment:
    return InverseMoment(moment, Regularisation(epsilon=1e-4))
