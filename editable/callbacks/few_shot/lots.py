"""Which photographs make a rule: some of each class but the one that tests it, drawn by seed, or all of all."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Lot", "lots"]


class Lot(NamedTuple):
    """One draw of photographs, mostly with a class left out.

    Attributes:
        shots: Photographs of each class; none for all that there are.
        draw: Number of the draw, from 0.
        left_out: Label of the class that the rule is tested on; none where all make it.
        makers: Positions of the photographs that make the rule, int64 [n].
    """

    shots: int | None
    draw: int
    left_out: int | None
    makers: Tensor

    @classmethod
    def whole(cls, labels: Tensor) -> "Lot":
        """Return all photographs of all classes; their labels are given."""
        return cls(None, 0, None, torch.arange(len(labels)))

    @property
    def unseen(self) -> list[int]:
        """The labels of which a rule may use no image."""
        return [] if self.left_out is None else [self.left_out]

    def without(self, label: int, labels: Tensor) -> Tensor:
        """Return the makers that are of other classes than one; labels of all photographs are given."""
        return self.makers[labels[self.makers] != label]


def lots(labels: Tensor, shots: Sequence[int | None], draws: int, seed: int) -> Iterator[Lot]:
    """Yield all draws. The photographs of a class are the same whichever other class is left out.

    Args:
        labels: Of all photographs, int64 [N].
        shots: Numbers of photographs of each class; all of them are drawn once.
        draws: Number of draws of each.
        seed: Draw number d has seed + d.
    """
    classes = labels.unique().tolist()
    for number in shots:
        for draw in range(draws if number is not None else 1):
            generator = torch.Generator().manual_seed(seed + draw)
            drawn = {}
            for label in classes:
                own = (labels == label).nonzero().flatten()
                drawn[label] = own[torch.randperm(len(own), generator=generator)[:number]].sort().values
            for left_out in classes:
                makers = torch.cat([drawn[label] for label in classes if label != left_out])
                yield Lot(number, draw, left_out, makers)
