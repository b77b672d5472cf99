"""The second moment of a layer's keys as the commands ask for it: its options, and the images that it is taken over."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from editable.callbacks.run.context import image_data, optional_path
from editable.callbacks.run.edit_loop import all_ranks
from editable.callbacks.run.image_identity import images_identity
from editable.callbacks.site.sets import validation_images
from editable.errors import require_at_least, require_choice, require_seed
from editable.models import fingerprint
from editable.rewriting import (
    Architecture,
    LayerBlock,
    Memory,
    Regularisation,
    SecondMoment,
    cached_second_moment,
    collect_second_moment,
)

__all__ = ["MomentImages", "MomentSettings"]

REFERENCE_IMAGES = 256  # for solvers that hold the network in place on some images
KNOWN_BY = 4  # images, by what the network makes of which a kept second moment is known

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class MomentSettings:
    """Which images the second moment of a layer's keys is taken over, and how it is kept away from zero.

    Args:
        split: Unaugmented ``train`` images, ``val`` images, unless these are the test images for want of others, or
            ``test`` images: where a command divides these, the part that chooses, never the part that is reported.
        num_images: Largest number of images, drawn by seed.
        positions: Number of positions of each image, drawn by seed; null takes all.
        regularisation: Of the second moment; by default 1e-4 of its mean eigenvalue is added to each.
        cache: Folder for second moments, which are used again for the same network (its weights, and what it computes
            up to the layer) and images; null keeps none.
        seed: Of the draws.

    Raises:
        UserError: If a number is out of its range, or there is no such split.
    """

    split: Split = "train"
    num_images: int = 1000
    positions: int | None = None
    regularisation: Regularisation | None = None
    cache: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what is given."""
        require_choice(Split, **{"moment.split": self.split})
        require_at_least(1, **{"moment.num_images": self.num_images, "moment.positions": self.positions})
        require_seed(**{"moment.seed": self.seed})

    @property
    def regularised(self) -> Regularisation:
        """The regularisation that is meant."""
        return self.regularisation or Regularisation(epsilon=1e-4)

    def images(self, trainer: Trainer, choosing: Dataset | None = None) -> "MomentImages":
        """Return the images of a run, in batches as its data module makes them.

        Args:
            trainer: Of the run.
            choosing: Some of the test images, which are taken in place of all of them.

        Raises:
            UserError: If there are no such images, or validation images are asked for that are the test images.
        """
        data = image_data(trainer, "a second moment")
        if self.split == "train":
            dataset: Dataset = data.unaugmented_training_images()
        elif self.split == "val":
            which = "which moment.split=val must not take: set it to train, or to test, but for a reported half"
            dataset = validation_images(data, which)
        else:
            dataset = data.test_dataset if choosing is None else choosing
        cache = optional_path(self.cache)
        return MomentImages(
            dataset,
            self.num_images,
            self.positions,
            self.seed,
            data.batch_size,
            cache,
            trainer.global_rank,
            trainer.world_size,
        )

    def identity(self, images: "MomentImages") -> dict[str, Any]:
        """Return what rules that are made with second moments over some images depend on, as JSON holds it."""
        settings = {"split": self.split, "regularisation": str(self.regularised), "processes": images.world_size}
        return {f"moment.{name}": value for name, value in {**settings, **images.identity}.items()}


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

    @cached_property
    def drawn(self) -> Subset:
        """The images that are taken."""
        order = torch.randperm(len(self.dataset), generator=torch.Generator().manual_seed(self.seed))  # type: ignore[arg-type]
        return Subset(self.dataset, order[: self.count].sort().values.tolist())

    @cached_property
    def identity(self) -> dict[str, str | int]:
        """What a second moment over them depends on besides network and layer."""
        return {
            "num_images": len(self.drawn),
            "batch_size": self.batch_size,  # the order of additions, and with it the last bits
            "positions": str(self.positions),
            "seed": self.seed,
            "images": images_identity(self.drawn),
        }

    @cached_property
    def references(self) -> Tensor:
        """Some of them, [n, C, H, W]."""
        return self._first(REFERENCE_IMAGES)

    def _first(self, number: int) -> Tensor:
        drawn = self.drawn
        return torch.stack([torch.as_tensor(drawn[index][0]) for index in range(min(number, len(drawn)))])

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
        identity: dict[str, str | int] = {
            "weights": fingerprint(block.upstream_state),
            "inputs": _inputs_identity(block, self._first(KNOWN_BY)),
            "layer": block.layer,
            "architecture": architecture,
            "precision": str(block.weight.dtype),
            **self.identity,
        }
        name = f"{block.layer}-{architecture}-{identity['weights']}"  # networks do not displace one another
        return cached_second_moment(self.cache, identity, collect, name)


@torch.no_grad()
def _inputs_identity(block: LayerBlock, images: Tensor) -> str:
    """Return what tells networks of the same weights apart, with other activations for example: what a layer reads.

    Two norms of it, of four digits, which rounding on another device or in other batches leaves as they are: the plain
    one, and one in which each value has a weight of its own, drawn by seed, so that their order counts.

    Args:
        block: The layer.
        images: As the network takes them, [N, C, H, W].
    """
    inputs = block.inputs(images.to(block.weight.device)).cpu().double().flatten()
    weights = torch.rand(len(inputs), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return f"{inputs.norm():.4g} {(weights * inputs).norm():.4g}"
