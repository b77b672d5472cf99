"""Batches that several processes make in turn: each reads its own, and is told what the others have made of theirs."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.distributed
from torch import Tensor

__all__ = ["Turns", "told"]


class Turns(NamedTuple):
    """How batches are dealt out: batch b is that of process b modulo their number.

    Attributes:
        rank: Of this process.
        number: Of processes.
        batch_size: Images in each batch but the last.
    """

    rank: int
    number: int
    batch_size: int

    def own(self, num_images: int) -> list[range]:
        """Return the positions of the images in each of this process's batches."""
        starts = range(0, num_images, self.batch_size)[self.rank :: self.number]
        return [range(start, min(start + self.batch_size, num_images)) for start in starts]


def told(own: Sequence[Tensor] | None, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
    """Yield what each process has, in the order of their ranks; a collective operation.

    Args:
        own: Tensors of this process; those that have none are left out.
        device: Where messages go from and to, and what is told comes out.
    """
    kinds: list[list[tuple[torch.Size, torch.dtype]] | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(kinds, None if own is None else [(some.shape, some.dtype) for some in own])
    for rank, of_rank in enumerate(kinds):
        if of_rank is None:
            continue
        if own is not None and rank == torch.distributed.get_rank():
            tensors = tuple(some.to(device).contiguous() for some in own)
        else:
            tensors = tuple(torch.empty(shape, dtype=dtype, device=device) for shape, dtype in of_rank)
        for tensor in tensors:
            torch.distributed.broadcast(tensor, rank)
        yield tensors
