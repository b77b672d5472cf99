"""Some images with a concept replaced, to be shown."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["ReplacedExamples"]


class ReplacedExamples(NamedTuple):
    """Some images before and after, on the CPU.

    Attributes:
        originals: In [0, 1], [n, C, H, W].
        manipulated: In [0, 1], [n, C, H, W].
        masks: Where the concept was, in [0, 1], [n, H, W].
        names: Of the images, n.
    """

    originals: Tensor
    manipulated: Tensor
    masks: Tensor
    names: list[str]

    @staticmethod
    def join(parts: Sequence["ReplacedExamples"]) -> "ReplacedExamples":
        """Return several sets of examples, at least one, as a single one."""
        return ReplacedExamples(
            torch.cat([part.originals for part in parts]),
            torch.cat([part.manipulated for part in parts]),
            torch.cat([part.masks for part in parts]),
            [name for part in parts for name in part.names],
        )

    def take(self, positions: Sequence[int]) -> "ReplacedExamples":
        """Return some of them, in the order of their positions here."""
        some = list(positions)
        names = [self.names[position] for position in some]
        return ReplacedExamples(self.originals[some], self.manipulated[some], self.masks[some], names)
