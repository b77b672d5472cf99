"""A layer made ready to be rewritten by a rule: its block, its second moment, and the rule's exemplars at it."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from editable.callbacks.run.context import image_data
from editable.callbacks.run.edit_loop import all_ranks
from editable.models import fingerprint
from editable.rewriting import (
    Architecture,
    Exemplars,
    InverseMoment,
    LayerBlock,
    Memory,
    Regularisation,
    RewriteProblem,
    SecondMoment,
    cached_second_moment,
    collect_second_moment,
    exemplars_from_features,
    exemplars_from_images,
    make_memory,
)

__all__ = ["MomentImages", "RewriteSite", "Route", "RuleImages"]

Route: TypeAlias = Literal["images", "features"]
"""Where keys come from: manipulated images, or features of the texture put on the concept's positions."""

REFERENCE_IMAGES = 256  # for solvers that hold the network in place on some images
LOOKED_AT = 16  # images by which a data set is recognised


class RuleImages(NamedTuple):
    """A rule's exemplars as the network takes them, normalised.

    Attributes:
        originals: Images of what the new concept shall be taken for, [n, C, H, W].
        manipulated: The same with the new concept in its place.
        textures: Images of the new concept alone.
        masks: Where it is, in [0, 1], [n, H, W].
        labels: True labels, int64 [n].
    """

    originals: Tensor
    manipulated: Tensor
    textures: Tensor
    masks: Tensor
    labels: Tensor


@dataclass(frozen=True)
class MomentImages:
    """The images over which second moments of keys are collected, shared out over ranks.

    Attributes:
        dataset: Items begin with an image as the network takes it.
        count: Largest number of images, drawn by seed.
        positions: Number of positions of each image, drawn by seed; none takes all.
        seed: Of the draws.
        batch_size: Number of images run at once.
        cache: Folder where second moments are kept, or none.
        rank: Of this process.
        world_size: Number of processes.
    """

    dataset: Dataset
    count: int
    positions: int | None
    seed: int
    batch_size: int
    cache: Path | None
    rank: int = 0
    world_size: int = 1

    @classmethod
    def of_run(
        cls, trainer: Trainer, dataset: Dataset, count: int, positions: int | None, seed: int, cache: str | None = None
    ) -> "MomentImages":
        """Return those of a run, in batches as its data module makes them; see the attributes."""
        return cls(
            dataset,
            count,
            positions,
            seed,
            image_data(trainer, "a second moment").batch_size,
            None if cache is None else Path(cache),
            trainer.global_rank,
            trainer.world_size,
        )

    @cached_property
    def drawn(self) -> Subset:
        """The images that are taken."""
        order = torch.randperm(len(self.dataset), generator=torch.Generator().manual_seed(self.seed))  # type: ignore[arg-type]
        return Subset(self.dataset, order[: self.count].sort().values.tolist())

    @cached_property
    def references(self) -> Tensor:
        """Some of them, [n, C, H, W]."""
        drawn = self.drawn
        return torch.stack([torch.as_tensor(drawn[index][0]) for index in range(min(REFERENCE_IMAGES, len(drawn)))])

    def second_moment(
        self, block: LayerBlock, memory: Memory, architecture: Architecture, progress: Callable[[int], object]
    ) -> SecondMoment:
        """Return the second moment of a layer's keys, kept or computed; a collective operation."""
        drawn = self.drawn

        def collect() -> SecondMoment:
            own = Subset(drawn, list(range(self.rank, len(drawn), self.world_size)))
            loader = DataLoader(own, batch_size=self.batch_size)
            moment = collect_second_moment(block, memory, loader, self.positions, self.seed + self.rank, progress)
            first, *others = all_ranks(moment, self.world_size)
            first.merge(*others)
            return first

        if self.cache is None or self.world_size > 1:  # ranks would write into the same file
            return collect()
        step = max(1, len(drawn) // LOOKED_AT)
        some = torch.stack([torch.as_tensor(drawn[index][0]) for index in range(0, len(drawn), step)])
        identity: dict[str, str | int] = {
            "weights": fingerprint(block.upstream_state),
            "layer": block.layer,
            "architecture": architecture,
            "images": fingerprint({"some": some}),
            "num_images": len(drawn),
            "positions": str(self.positions),
            "seed": self.seed,
        }
        name = f"{block.layer}-{architecture}-{identity['weights']}"  # networks do not displace one another
        return cached_second_moment(self.cache, identity, collect, name)


class RewriteSite:
    """A layer with all that a rewrite of it by one rule needs.

    Args:
        network: The network, on the device where everything is to run.
        layer: Name of the layer.
        rule: The rule's exemplars.
        moment: The images for the second moment.
        route: Where keys come from: manipulated ``images``, or ``features`` of the texture.
        keys: One mean key for the ``rule``, or one for each ``exemplar``.
        architecture: Of the memory.
        regularisation: Of the second moment.
        progress: Called with the number of images done since the last call.

    Attributes:
        block: The layer with BatchNorm and activation.
        memory: Its weight as a memory.
    """

    def __init__(
        self,
        network: nn.Module,
        layer: str,
        rule: RuleImages,
        moment: MomentImages,
        route: Route,
        keys: Literal["rule", "exemplar"],
        architecture: Architecture,
        regularisation: Regularisation,
        progress: Callable[[int], object],
    ) -> None:
        self.block = LayerBlock(network, layer)
        device = self.block.weight.device
        self.memory = make_memory(tuple(self.block.weight.shape), self.block.geometry, architecture)
        second_moment = moment.second_moment(self.block, self.memory, architecture, progress)
        self._inverse = InverseMoment(second_moment.mean.to(device), regularisation)
        self._rule = RuleImages(*(tensor.to(device) for tensor in rule))
        self._rules = torch.arange(len(rule.labels), device=device) if keys == "exemplar" else None
        self._exemplars = self._exemplars_by(route)
        self._moment = moment

    def by_route(self, route: Route) -> "RewriteSite":
        """Return the same layer with exemplars by another route, and the same second moment."""
        site = copy.copy(self)
        site._exemplars = self._exemplars_by(route)
        return site

    def problem(self, rank: int, references: bool = False) -> RewriteProblem:
        """Return what is asked of a solver.

        Args:
            rank: Number of directions.
            references: With reference images, which have to be read.
        """
        return RewriteProblem(
            self.block,
            self.memory,
            self._exemplars,
            self._inverse,
            rank,
            self._rule.manipulated,
            self._rule.labels,
            self._moment.references if references else None,
        )

    def _exemplars_by(self, route: Route) -> Exemplars:
        originals, manipulated, textures, masks, _ = self._rule
        if route == "images":
            return exemplars_from_images(self.block, originals, manipulated, masks, self._rules)
        return exemplars_from_features(self.block, originals, textures, masks, self._rules)
