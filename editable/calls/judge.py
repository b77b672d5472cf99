"""The labelled images that judge an edit, as people have them: a loader, a data set, or two tensors."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from editable.calls.running import logits_on
from editable.data.modules.image_data_module import EvaluationImages
from editable.errors import UserError

__all__ = ["Judge", "Judged", "Transform", "class_names", "halves", "transform_of"]

Judged: TypeAlias = DataLoader | Dataset | tuple[Tensor, Tensor]
"""Images as the network gets them, each with its label."""

Transform: TypeAlias = Callable[[Any], Tensor]
"""Makes of a picture what the network gets."""

IMAGES = ("pixel_values", "images", "image", "img", "x")
LABELS = ("labels", "label", "targets", "target", "y")
BATCH = 64


class Judge:
    """Labelled images, read in batches, any of them by their positions.

    Args:
        given: A loader, whose images are read in order, a data set with a length, or images [N, C, H, W] with labels
            [N], tensors, arrays or lists of numbers. Items and batches are pairs, or mappings such as those of Hugging
            Face's data sets.
        name: What they are called in messages.

    Raises:
        UserError: If they are none of these, or there is none.
    """

    def __init__(self, given: Judged, name: str = "judge") -> None:
        self.name = name
        self._options: dict[str, Any] = {"batch_size": BATCH}
        dataset: Any = given
        if isinstance(given, DataLoader):
            dataset = _drawn(given, name)
            self._options = {
                "batch_size": given.batch_size or BATCH,
                "num_workers": given.num_workers,
                "collate_fn": given.collate_fn,
            }
        elif isinstance(given, tuple | list) and len(given) == 2 and isinstance(given[0], Tensor | np.ndarray):
            dataset = _in_tensors(*given, name)
        if (
            isinstance(dataset, IterableDataset)
            or not hasattr(dataset, "__getitem__")
            or not hasattr(dataset, "__len__")
        ):
            raise UserError(
                f"{name} must be a DataLoader, a data set with a length, or images and labels in two tensors, got a "
                f"{type(dataset).__name__}"
            )
        if not len(dataset):
            raise UserError(f"{name} has no images")
        self.dataset = dataset
        self.fault: UserError | None = None
        self._num_classes: int | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def fit(self, network: nn.Module) -> None:
        """Look whether a network takes the images, and from now on whether it knows their labels.

        Raises:
            UserError: If it does not take them.
        """
        images, _ = next(self.batches([0]))
        try:
            self._num_classes = logits_on(network, images).shape[1]
        except UserError as error:
            raise UserError(f"{self.name} has images that do not fit: {error}") from error

    def batches(self, positions: Sequence[int] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images [B, C, H, W] and labels, int64 [B], of some positions in their order; by default of all.

        Raises:
            UserError: If images make no batch, or a batch is no pair of images and labels, or a label is none of the
                network's; it is kept as ``fault``.
        """
        try:
            yield from self._batches(positions)
        except UserError as error:
            self.fault = error
            raise

    def _batches(self, positions: Sequence[int] | None) -> Iterator[tuple[Tensor, Tensor]]:
        dataset = self.dataset if positions is None else Subset(self.dataset, list(positions))
        alone = {"num_workers": 0} if len(dataset) == 1 else {}
        batches = iter(DataLoader(dataset, shuffle=False, **{**self._options, **alone}))
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (TypeError, RuntimeError) as error:
                reason = str(error).strip().partition("\n")[0]
                raise UserError(
                    f"{self.name} gives images that make no batch ({reason}): they have to be tensors of one size, as "
                    "a data set's transform makes them"
                ) from error
            yield self._pair(batch)

    def _pair(self, batch: Any) -> tuple[Tensor, Tensor]:
        images = labels = None
        if isinstance(batch, Mapping):
            images, labels = (next((batch[key] for key in keys if key in batch), None) for keys in (IMAGES, LABELS))
        elif isinstance(batch, tuple | list) and len(batch) >= 2:
            images, labels = batch[:2]
        if not isinstance(images, Tensor) or not isinstance(labels, Tensor) or not images.is_floating_point():
            held = list(batch) if isinstance(batch, Mapping) else type(batch).__name__
            raise UserError(
                f"{self.name} must give images, floating-point numbers as the network gets them, and their labels, got "
                f"{held if images is None or labels is None else f'{_kind(images)} and {_kind(labels)}'}"
            )
        if labels.ndim != 1 or labels.is_floating_point() or len(labels) != len(images):
            raise UserError(f"{self.name} must give one whole number as the label of each image, got {_kind(labels)}")
        known = torch.inf if self._num_classes is None else self._num_classes
        strange = labels[(labels < 0) | (labels >= known)].tolist()
        if strange:
            whose = f"the network's classes, 0 … {self._num_classes - 1}" if self._num_classes else "a class's"
            raise UserError(f"{self.name} has the label {strange[0]}, which is none of {whose}")
        return images, labels.long()


def _drawn(loader: DataLoader, name: str) -> Any:
    """Return the images that a loader gives, in their order: those of its data set, or of a part of it."""
    dataset, batches = loader.dataset, loader.batch_sampler
    if isinstance(dataset, IterableDataset):
        return dataset
    sampler = batches.sampler if type(batches) is BatchSampler else loader.sampler if batches is None else batches
    if isinstance(sampler, SubsetRandomSampler):
        return Subset(dataset, sorted(int(index) for index in sampler.indices))
    whole = isinstance(sampler, SequentialSampler) or (
        isinstance(sampler, RandomSampler) and not sampler.replacement and sampler.num_samples == len(dataset)  # type: ignore[arg-type]
    )
    if not whole:
        raise UserError(
            f"{name} is a loader whose {type(sampler).__name__} decides which of its images it gives: give a Subset of "
            "its data set in their place"
        )
    return dataset


def _in_tensors(images: Any, labels: Any, name: str) -> TensorDataset:
    """Return images and labels, each given as a whole, as a data set."""
    try:
        images, labels = (
            some if isinstance(some, Tensor) else torch.as_tensor(np.asarray(some)) for some in (images, labels)
        )
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{name} must give images and one whole number for each as its label, got {_kind(labels)}"
        ) from error
    if not images.ndim or not labels.ndim or len(images) != len(labels):
        counts = [len(some) if some.ndim else 1 for some in (images, labels)]
        raise UserError(f"{name} has {counts[0]} images and {counts[1]} labels: give one for each")
    return TensorDataset(images.float() if images.is_floating_point() else images, labels)


def class_names(network: nn.Module, judge: Judge | None) -> list[str] | None:
    """Return the names of a network's classes by label, where the data set or the network's configuration has them.

    Of several names for a class, as torchvision's ``ImageNet`` has them, the first is taken if no other class has it.
    """
    names = getattr(_outer(judge.dataset), "classes", None) if judge is not None else None
    if not names:
        by_label = getattr(getattr(network, "config", None), "id2label", None)
        names = [by_label[label] for label in sorted(by_label)] if by_label else None
    if not names:
        return None
    several = [[str(some) for some in name] if isinstance(name, tuple | list) else [str(name)] for name in names]
    firsts = [name[0] if name else "" for name in several]
    return [first if firsts.count(first) == 1 else ", ".join(name) for first, name in zip(firsts, several, strict=True)]


def transform_of(judge: Judge | None) -> Transform | None:
    """Return what makes of a picture what the network gets, where the data set has it."""
    if judge is None:
        return None
    dataset = _outer(judge.dataset)
    if isinstance(dataset, EvaluationImages):
        resize, normalise = dataset.resize, dataset.normalise
        return lambda pixels: normalise(resize(pixels))
    return getattr(dataset, "transform", None)


def halves(number: int, divide: bool, seed: int) -> tuple[Tensor, Tensor]:
    """Return which of N images judge and which serve otherwise, int64, drawn by seed; where not divided, all judge."""
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed))
    judged = (number + 1) // 2 if divide else number
    return order[:judged].sort().values, order[judged:]


def _outer(dataset: Any) -> Any:
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def _kind(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
