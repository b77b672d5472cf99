"""A rule for a generator by copy, paste and context: value features of one image put into others, at a layer."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from editable.errors import UserError
from editable.rewriting.keys.context_keys import key_directions, mean_key, span_directions
from editable.rewriting.keys.exemplars import Exemplars
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.keys.selections import SelectedFeatures, Selection, select
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.inverse_moment import InverseMoment
from editable.rewriting.memory.memory import Memory

__all__ = ["PasteProblem", "PasteRule", "paste_problem"]


class PasteRule(NamedTuple):
    """What is drawn in one place of a generated image shall be drawn wherever the context is.

    Attributes:
        copy: One image, and the part of it that is copied.
        paste: Images that the part is pasted into, and where.
        context: Images, and the parts of them that the rule shall hold for; often those of ``paste``.
    """

    copy: Selection
    paste: Selection
    context: Selection


@dataclass(frozen=True, kw_only=True)
class PasteProblem(RewriteProblem):
    """A rewrite whose keys and directions are those of a context, and whose targets are pasted features.

    ``exemplars.inputs`` are what the layer reads of the images that are pasted into, ``exemplars.target_inputs`` what
    it reads of the copied image, where it is and not where it is pasted; ``exemplars.mask`` is where features are
    pasted. K* is the mean key of the context, and V* what the layer recalls for the mean key of the copied part.

    Args:
        context: The context.
        copied: The copied image.
        pasted: The block's output with the copied features in it, [p, f, H', W'].
    """

    context: SelectedFeatures
    copied: SelectedFeatures
    pasted: Tensor

    @cached_property
    def keys(self) -> Tensor:
        """K*, the mean key of the context, float64 [key_size, 1]."""
        return mean_key(self.context.keys, self.context.key_weights)

    @cached_property
    def target_keys(self) -> Tensor:
        """The mean key of the copied part, float64 [key_size, 1]."""
        return mean_key(self.copied.keys, self.copied.key_weights)

    @cached_property
    def directions(self) -> Tensor:
        """D, float64 [key_size, rank]: that of C⁻¹K*, or for a higher rank those of the context's single keys."""
        if self.rank == 1:
            return span_directions(self.keys, self.inverse).vectors
        return key_directions(self.context.keys, self.context.key_weights, self.inverse, self.rank).vectors

    @cached_property
    def targets(self) -> Tensor:
        """The block's output that is wanted, [p, f, H', W']."""
        return self.pasted

    @cached_property
    def value_mask(self) -> Tensor:
        """Where features were pasted, [p, H', W']."""
        return self.exemplars.mask


@torch.no_grad()
def paste_problem(
    block: LayerBlock,
    memory: Memory,
    rule: PasteRule,
    inverse: InverseMoment,
    rank: int = 1,
) -> PasteProblem:
    """Turn a rule by copy, paste and context into a rewrite problem (Bau et al. 2020).

    The block's output inside the copied part's mask is moved by the whole number of positions that brings the mask's
    centre of gravity nearest to that of the paste mask. Where both masks are, it takes the place of what was there, in
    border cells in proportion to the smaller of the two.

    Args:
        block: The layer, a convolution.
        memory: Of the layer.
        rule: What is copied, and where it shall be drawn.
        inverse: Of the second moment of the layer's keys.
        rank: Number of directions of the keys' space that a descent may change the weight along.

    Raises:
        UserError: If the layer is linear, more than one image is copied, latent vectors or masks are of another size
            than the generator's, a mask is empty, the two masks do not meet, or the rank is out of its range.
    """
    copied, into, context = (
        select(block, memory, selection, name)
        for selection, name in ((rule.copy, "copy"), (rule.paste, "paste"), (rule.context, "context"))
    )
    if len(copied.inputs) != 1:
        raise UserError(f"features are copied from one image, got {len(copied.inputs)}")
    values, mask = _paste(copied, into)
    exemplars = Exemplars(into.inputs, copied.inputs.expand_as(into.inputs), mask)
    return PasteProblem(block, memory, exemplars, inverse, rank, context=context, copied=copied, pasted=values)


def _paste(copied: SelectedFeatures, into: SelectedFeatures) -> tuple[Tensor, Tensor]:
    """Return the block's output with the copied features in it, and how much of each position was pasted."""
    pasted, shares = [], []
    source = _centre(copied.value_masks[0])
    for number, (values, mask) in enumerate(zip(into.values, into.value_masks, strict=True)):
        rows, columns = (round(b - a) for a, b in zip(source, _centre(mask), strict=True))
        share = torch.minimum(_moved(copied.value_masks[0], rows, columns), mask)
        if not share.any():
            raise UserError(
                f"the copied part and the paste mask of image {number} (counted from 0) have no position in common "
                "when laid one upon the other: give them about the same shape"
            )
        pasted.append(torch.lerp(values, _moved(copied.values[0], rows, columns), share))
        shares.append(share)
    return torch.stack(pasted), torch.stack(shares)


def _centre(mask: Tensor) -> tuple[float, float]:
    """Return row and column of a mask's centre of gravity."""
    rows, columns = (torch.arange(length).to(mask) for length in mask.shape)
    total = float(mask.sum())
    return float(mask.sum(1) @ rows) / total, float(mask.sum(0) @ columns) / total


def _moved(maps: Tensor, rows: int, columns: int) -> Tensor:
    """Move maps [..., H, W] down and to the right; zero comes in."""
    height, width = maps.shape[-2:]
    moved = torch.zeros_like(maps)
    top, left = max(rows, 0), max(columns, 0)
    bottom, right = min(height + rows, height), min(width + columns, width)
    moved[..., top:bottom, left:right] = maps[..., top - rows : bottom - rows, left - columns : right - columns]
    return moved
