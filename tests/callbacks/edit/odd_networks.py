"""Small classifiers of digits as people have them: with two heads, a way that depends on the data, a tied layer."""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Branching", "BranchingTwoHeads", "Plain", "Scores", "Shared", "TwoHeads", "zero_head"]


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Conv2d(1, 8, 3, padding=1, stride=2)
        self.b = nn.Conv2d(8, 8, 3, padding=1)
        self.c = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.c(self.b(self.a(x).relu()).relu()).relu().mean((2, 3)))


class TwoHeads(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x.mean()


class Scores(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x)[..., None]


class Branching(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x if x.mean() > 0 else x.flip(-1))


class BranchingTwoHeads(Branching):
    """Neither can be traced nor returns a tensor."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(x), x


class Shared(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.c = self.b


def zero_head() -> nn.Module:
    network = Plain()
    nn.init.zeros_(network.fc.weight)
    nn.init.zeros_(network.fc.bias)
    return network
