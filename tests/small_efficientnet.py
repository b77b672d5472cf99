"""What stands in for EfficientNet-Lite0 and its photographs where a shipped configuration runs in miniature."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn


class SmallBlock(nn.Module):
    """Has the layers' names of an EfficientNet's block."""

    def __init__(self) -> None:
        super().__init__()
        self._expand_conv, self._bn0 = nn.Conv2d(4, 6, 1, bias=False), nn.BatchNorm2d(6)
        self._project_conv, self._bn2 = nn.Conv2d(6, 4, 1, bias=False), nn.BatchNorm2d(4)
        self._swish = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        return x + self._bn2(self._project_conv(self._swish(self._bn0(self._expand_conv(x)))))


class SmallNetwork(nn.Module):
    """Stands in for EfficientNet-Lite0: small, of random weights, with the layers that are rewritten."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self._conv_stem = nn.Conv2d(3, 4, 16, stride=16)
        self._blocks = nn.Sequential(*(SmallBlock() for _ in range(16)))
        self._conv_head, self._bn1, self._swish = nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()
        self._fc = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self._swish(self._bn1(self._conv_head(self._blocks(self._conv_stem(x)))))
        return self._fc(x.mean((2, 3)))


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.RandomState(seed).randint(0, 256, (8, 9, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((270, 256)).save(path)
