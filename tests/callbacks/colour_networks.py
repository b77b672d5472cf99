"""Small classifiers of colour images as people have them: shared weights, odd outputs, a way that depends on data."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Branching", "InADict", "InAnObject", "Plain", "TiedBlocks", "TiedHead", "TwoHeads"]


class Plain(nn.Module):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.b = nn.Conv2d(8, 8, 3, padding=1)
        self.c = nn.Conv2d(8, num_classes, 3, padding=1)
        self.hidden = nn.Linear(num_classes, num_classes)
        self.head = nn.Linear(num_classes, num_classes)

    def logits(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(self.c(self.b(self.a(x).relu()).relu()).mean((2, 3))).relu())

    def forward(self, x: Tensor) -> Any:
        return self.logits(x)


class TiedHead(Plain):
    """The head has the weight of the layer before it."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(num_classes)
        self.head.weight = self.hidden.weight


class TiedBlocks(Plain):
    """One convolution under two names, of which the second is run besides."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(num_classes)
        self.d = nn.Conv2d(8, 8, 3, padding=1)
        self.d.weight = self.b.weight

    def logits(self, x: Tensor) -> Tensor:
        found = self.c(self.d(self.b(self.a(x).relu()).relu()).relu()).mean((2, 3))
        return self.head(self.hidden(found).relu())


class TwoHeads(Plain):
    def forward(self, x: Tensor) -> Any:
        return self.logits(x), x.mean()


class InADict(Plain):
    def forward(self, x: Tensor) -> Any:
        return {"loss": None, "logits": self.logits(x)}


class InAnObject(Plain):
    def forward(self, x: Tensor) -> Any:
        return SimpleNamespace(loss=None, logits=self.logits(x))


class Branching(Plain):
    """It cannot be traced; what it gives is the plain one's."""

    def forward(self, x: Tensor) -> Any:
        return self.logits(x if x.mean() > -100 else x.flip(-1))
