"""The images that a rewrite run's figures show, taken from its sets as plain tensors in [0, 1]."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from editable.callbacks.rewrite.outcome import MeasuredRewrite, ShownChanges, ShownExemplars, ShownHeatMaps
from editable.callbacks.site.site import RewriteSite
from editable.data import ImageDataModule, RewriteRule, denormalise
from editable.rewriting import match_context

__all__ = ["shown_changes", "shown_exemplars", "shown_heat_maps"]

MOST_EXEMPLARS, MOST_HEAT_MAPS, MOST_CHANGED = 8, 16, 32


def shown_exemplars(rule: RewriteRule) -> ShownExemplars:
    """Return the first exemplars of a rule."""
    some = slice(MOST_EXEMPLARS)
    return ShownExemplars(
        len(rule), rule.originals[some], rule.manipulated[some], rule.masks[some], list(rule.names[some])
    )


def shown_heat_maps(site: RewriteSite, rank: int, sets: Mapping[str, Dataset], data: ImageDataModule) -> ShownHeatMaps:
    """Return where a rewrite's directions are seen: on the exemplars, and on photographs or test images.

    Args:
        site: The layer that was rewritten.
        rank: Number of directions.
        sets: The sets that are reported, by name.
        data: The data module, which knows the normalisation.

    Raises:
        UserError: If the layer is a linear one, whose keys have no place in an image.
    """
    problem = site.problem(rank)
    other = "photographs" if "photographs" in sets else "report"
    images: list[Tensor] = []
    maps: list[Tensor] = []
    titles: list[str] = []
    for name in ("exemplars", other):
        loader = DataLoader(sets[name], batch_size=data.batch_size)
        matches = match_context(site.block, site.memory, problem.directions, loader, (), key=problem.keys)
        top = matches.ranking[: MOST_HEAT_MAPS // 2]
        images.append(_shown(sets[name], top, data))
        maps.append(matches.upsampled(top))
        titles += [f"{name} {index}" for index in top.tolist()]
    return ShownHeatMaps(other, torch.cat(images), torch.cat(maps), titles)


def shown_changes(
    rewrite: MeasuredRewrite, sets: Mapping[str, Dataset], data: ImageDataModule
) -> dict[str, ShownChanges]:
    """Return images that became right or wrong, by set; a set without any is left out.

    Args:
        rewrite: What has changed them.
        sets: The sets that it was measured on, by name.
        data: The data module, which knows the normalisation.
    """
    half = MOST_CHANGED // 2
    changes = {}
    for name, images in sets.items():
        some = torch.cat([rewrite.corrected(name)[:half], rewrite.broken(name)[:half]])
        if len(some):
            changes[name] = ShownChanges(some, _shown(images, some, data))
    return changes


def _shown(images: Dataset, positions: Tensor, data: ImageDataModule) -> Tensor:
    """Return some images of a set in [0, 1], [n, C, H, W]."""
    some = torch.stack([torch.as_tensor(images[position][0]) for position in positions.tolist()])
    return denormalise(some, data.mean, data.std)
