"""Maps of exemplars at a rewritten convolution: where keys respond, what is like what, and what the rewrite changes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from editable.callbacks.see.outcome import ExemplarMaps
from editable.rewriting import RewriteProblem
from editable.rewriting.inverse.similarity import position_similarity
from editable.rewriting.inverse.trace_back import TraceBack, Traced
from editable.rewriting.keys.context_matching import match_context

__all__ = ["exemplar_maps"]


@torch.no_grad()
def exemplar_maps(
    problem: RewriteProblem, weight: Tensor, trace: TraceBack, features: Traced, images: Sequence[Tensor]
) -> ExemplarMaps:
    """Return the maps of a rule's exemplars.

    Args:
        problem: The rule at the layer, a convolution.
        weight: The rewritten weight.
        trace: What has traced values back.
        features: What they were traced back to.
        images: Originals and manipulated exemplars as the network takes them, [n, C, H, W] each.
    """
    block = problem.block
    manipulated, originals = trace.exemplar_features
    wanted, before, after = block.values(originals), block.values(manipulated), block.values(manipulated, weight)
    similarities = {
        when: {
            name: position_similarity(found.found, true).cpu()
            for name, true in (("original", originals), ("manipulated", manipulated))
        }
        for when, found in zip(("before", "after"), features.of("original"), strict=True)
    }
    return ExemplarMaps(
        match_context(block, problem.memory, problem.directions, images, (), problem.keys),
        similarities,
        _lengths(wanted),
        {"before": _lengths(before), "after": _lengths(after)},
        {"original": _lengths(block.values(originals, weight) - wanted), "manipulated": _lengths(after - before)},
    )


def _lengths(values: Tensor) -> Tensor:
    """Return lengths over channels, [n, c, h, w] → [n, h, w]."""
    return values.norm(dim=1).cpu()
