"""Maps of a trained filter on some of its examples, beside those that it began with."""

from collections.abc import Sequence

import torch

from editable.callbacks.new_class.outcome import FilterMaps
from editable.callbacks.new_class.trial import NewClassTrial
from editable.data import denormalise
from editable.rewriting.new_class.class_filter import ClassFilter, filter_maps

__all__ = ["maps_of"]

MOST_SHOWN = 5
"""Positives, and as many negatives, whose maps are drawn."""


@torch.no_grad()
def maps_of(trial: NewClassTrial, one: ClassFilter, mean: Sequence[float], std: Sequence[float]) -> FilterMaps:
    """Return the maps of a filter on the first examples that it was trained on, on the CPU.

    Args:
        trial: The draw of examples.
        one: One of its filters.
        mean: Of the data's normalisation, one for each channel.
        std: Likewise.
    """
    positives, negatives = trial.positives[:MOST_SHOWN], trial.negative_images[:MOST_SHOWN]
    read = torch.cat([trial.examples.positives[:MOST_SHOWN], trial.examples.negatives[:MOST_SHOWN]])
    silhouettes = trial.examples.silhouettes[:MOST_SHOWN]
    targets = torch.cat([silhouettes, silhouettes.new_zeros(len(negatives), *silhouettes.shape[1:])])
    before, after = (
        filter_maps(trial.block, read, weight)[:, 0].sigmoid().cpu() for weight in (one.initial_weight, one.weight)
    )
    return FilterMaps(
        images=denormalise(torch.cat([positives, negatives]), mean, std),
        is_new=[True] * len(positives) + [False] * len(negatives),
        targets=targets.cpu(),
        before=before,
        after=after,
    )
