"""Images in the shards of a WebDataset."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only

from editable.data.classes import ClassNames
from editable.data.images.images import LabelledImages
from editable.data.modules.collections.labels import classes_of, label_of
from editable.data.modules.collections.shards import ShardImages, ShardIndex
from editable.data.modules.framed_images import Augmentation, FramedImageDataModule
from editable.data.modules.image_data_module import Split
from editable.errors import UserError

__all__ = ["WebDatasetDataModule"]


class WebDatasetDataModule(FramedImageDataModule):
    """Images of tar files as ``webdataset`` writes them: a sample is an image and a label, neighbours of one name.

    Shards lie in a folder, on a disk that has their bytes in any order: an image is read from its place in the tar
    file, and nothing is unpacked. So the order of training images, limits, splits, resuming in mid-epoch, and each
    process's share are those of every other data module. What that cannot be is a stream: shards that come through a
    pipe or from an object store, and compressed ones, are refused. A run begins with a look at the headers of each
    shard.

    A label is the name of a class or, where no class has that name, its number. Without ``classes``, they are the names
    in alphabetical order; where all labels are whole numbers, these are the labels themselves.

    Args:
        root: the folder of the shards.
        train: pattern of the names of shards of training images, with ``*``, ``?`` and ``[…]``.
        val: likewise of validation images; where none is there, they are held out of the training images.
        test: likewise of test images; where none is there, the validation images are the test images.
        label_extension: ending of the file in a sample that has its label.

    Raises:
        UserError: an argument is out of range, there are no such shards, one is of two parts or cannot be read, or a
            sample has no label or no image.
    """

    def __init__(
        self,
        root: str,
        train: str = "train-*.tar",
        val: str = "val-*.tar",
        test: str = "test-*.tar",
        label_extension: str = "cls",
        image_size: int | Sequence[int] | None = None,
        resize_size: int | Sequence[int] | None = None,
        cache: bool = False,
        batch_size: int = 128,
        num_workers: int = 4,
        seed: int = 0,
        validation_fraction: float = 0.1,
        train_limit: int | None = None,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        augmentation: Augmentation = "none",
        test_limit: int | None = None,
        classes: ClassNames | None = None,
        train_size: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            image_size,
            resize_size,
            cache,
            batch_size,
            num_workers,
            seed,
            validation_fraction,
            train_limit,
            mean,
            std,
            augmentation,
            test_limit,
            classes,
            train_size,
        )
        self.root = Path(root).expanduser()
        self.patterns: dict[Split, str] = {"train": train, "val": val, "test": test}
        for split, pattern in self.patterns.items():
            if "://" in pattern or pattern.startswith("pipe:") or Path(pattern).is_absolute() or not pattern:
                raise UserError(
                    f"{split} is '{pattern}', but must be a pattern of files in root, such as {split}-*.tar: shards "
                    "are read in any order, which a stream has not"
                )
        if len(set(self.patterns.values())) < 3:
            raise UserError(f"train, val and test must differ, got {', '.join(self.patterns.values())}")
        self.label_extension = label_extension.removeprefix(".")
        self._indices: dict[Split, ShardIndex] = {}

    @cached_property
    def classes(self) -> list[str]:
        """Class names: those listed, or those of the first part that has shards.

        Raises:
            UserError: there are no shards, or one is of two parts or cannot be read.
        """
        if self.listed_classes is not None:
            return self.listed_classes
        split = next((split for split in self.patterns if self._shards(split)), None)
        if split is None:
            raise self._missing("train")
        return classes_of(sorted(set(self._index(split).labels)), f"'{self.root / self.patterns[split]}'")

    def open_split(self, split: Split) -> LabelledImages | None:
        """Return the images of a part; ``None`` where there are no shards for validation or test.

        Raises:
            UserError: there are no training shards, one is of two parts, cannot be read, is empty, or has a label of no
                class.
        """
        if not self._shards(split):
            if split == "train":
                raise self._missing(split)
            return None
        index = self._index(split)
        if not len(index):
            raise UserError(f"the shards '{self.root / self.patterns[split]}' have no image")
        known: dict[str, int] = {}
        for name, label in zip(index.names, index.labels, strict=True):
            if label not in known:
                known[label] = label_of(label, self.classes, f"'{name}'")
        labels = torch.tensor([known[label] for label in index.labels], dtype=torch.int64)
        images = ShardImages(index, labels)
        if self.image_size is None:
            height, width = images.read(0).shape[-2:]
            images.size = (height, width)
        return images

    def _shards(self, split: Split) -> list[Path]:
        if not self.root.is_dir():
            raise UserError(
                f"there is no folder of shards '{self.root}': give root, which holds {self.patterns[split]}"
            )
        found = {name: sorted(p for p in self.root.glob(self.patterns[name]) if p.is_file()) for name in self.patterns}
        part_of: dict[Path, Split] = {}
        for part, shards in found.items():
            for shard in shards:
                first = part_of.setdefault(shard.resolve(), part)
                if first != part:
                    raise UserError(
                        f"the shard '{shard}' is matched by {first} ('{self.patterns[first]}') and by {part} "
                        f"('{self.patterns[part]}'): name them so that each shard is of one part"
                    )
        return found[split]

    def _index(self, split: Split) -> ShardIndex:
        if split not in self._indices:
            hide_bar = getattr(rank_zero_only, "rank", 0) != 0
            self._indices[split] = ShardIndex(self._shards(split), self.label_extension, hide_bar)
        return self._indices[split]

    def _missing(self, split: Split) -> UserError:
        return UserError(
            f"'{self.root}' has no shard {self.patterns[split]}: name those that are there by train, val and test"
        )
