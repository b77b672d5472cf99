"""What all image data modules share: splits, transforms, loaders and a training order that survives resuming."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import BatchSizeFinder
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from editable.data.images.grey import GreyImages
from editable.data.images.images import LabelledImages
from editable.data.modules.augmentations import ALTERNATING, AUGMENTATIONS, make_augmentation, make_erasure
from editable.data.modules.splits import hold_out, limit, some_of
from editable.data.modules.training_order import AugmentedImages, EpochSampler, ResumableLoader
from editable.data.modules.workers import begin_worker, end_workers_at_exit
from editable.errors import (
    UserError,
    require_at_least,
    require_normalisation,
    require_seed,
    require_whole,
    require_within,
)

__all__ = ["EvaluationImages", "ImageDataModule", "Split"]

MOST_WORKERS = 1024
"""Processes: each takes some hundred megabytes."""

Split = Literal["train", "val", "test"]
"""The name of a part of a data set."""


class EvaluationImages(Dataset[tuple[Tensor, int]]):
    """Images as the network gets them; an item is ``(normalise(resize(image)), label)``.

    Args:
        images: data set of ``(image, label)``.
        resize: what brings a stored image to its size, without randomness.
        normalise: what makes numbers of its pixels.
    """

    def __init__(
        self, images: Dataset[tuple[Tensor, int]], resize: nn.Module, normalise: nn.Module, classes: Sequence[str] = ()
    ) -> None:
        self.images = images
        self.resize = resize
        self.normalise = normalise
        self.classes = list(classes)

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index]
        return self.normalise(self.resize(image)), label


class ImageDataModule(LightningDataModule, ABC):
    """Base of the image data modules; a subclass says where the images come from.

    A batch is ``(images, labels)``: normalised float32 ``[B, C, H, W]``, int64 ``[B]``. Order and augmentation of the
    training images depend on seed, epoch and position alone (:mod:`editable.data.modules.training_order`): a run
    resumed from a checkpoint, in the middle of an epoch too, sees what an uninterrupted one sees. The last, incomplete
    training batch is dropped, because BatchNorm is poor on few images. Validation and test images are never shuffled
    or augmented.

    Where the data set has no validation images of its own, ``validation_fraction`` of its training images are held
    out, class by class, chosen by seed; the fraction 0 fits without validation. Where it has no test images, the
    validation images are the test images. ``predict`` runs over the test images.

    After :meth:`setup`: ``image_shape`` (C, H, W), and ``train_dataset``, ``val_dataset``, ``test_dataset`` as far as
    the stage needs them (``val_dataset`` is ``None`` where there is no validation). ``classes`` and ``num_classes``
    are known before. ``mean`` and ``std`` are there to undo the normalisation in figures.

    Args:
        batch_size: images in a batch, per device.
        num_workers: worker processes that load images; 0 loads in the main process.
        seed: seed of the training order, the augmentation, the held-out part and the limited part.
        validation_fraction: part of the training images to hold out for validation, from 0 to below 1.
        train_limit: number of training images to use, chosen by seed; ``None`` uses all.
        test_limit: number of test images to use, likewise; their positions are counted among themselves.
        mean: mean of each channel, on a scale of 0 to 1.
        std: standard deviation of each channel, on a scale of 0 to 1.
        augmentation: name of the augmentation, see :func:`~editable.data.modules.augmentations.make_augmentation`.

    Raises:
        UserError: an argument is out of range.
    """

    image_shape: tuple[int, int, int]
    train_dataset: AugmentedImages
    val_dataset: EvaluationImages | None
    test_dataset: EvaluationImages

    def __init__(
        self,
        batch_size: int,
        num_workers: int,
        seed: int,
        validation_fraction: float,
        train_limit: int | None,
        mean: Sequence[float],
        std: Sequence[float],
        augmentation: str,
        test_limit: int | None = None,
    ) -> None:
        super().__init__()
        require_at_least(1, batch_size=batch_size, train_limit=train_limit, test_limit=test_limit)
        require_whole(0, MOST_WORKERS, num_workers=num_workers)
        require_seed(seed=seed)
        require_within("[0, 1)", validation_fraction=validation_fraction)
        require_normalisation(mean, std)
        _demand(augmentation in AUGMENTATIONS, "augmentation", augmentation, f"one of {', '.join(AUGMENTATIONS)}")
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.validation_fraction = validation_fraction
        self.train_limit = train_limit
        self.test_limit = test_limit
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.augmentation = augmentation
        self._loaded: dict[Split, LabelledImages | None] = {}
        self._predicted: EvaluationImages | None = None

    @property
    @abstractmethod
    def classes(self) -> list[str]:
        """Class names; the position is the label."""

    @abstractmethod
    def load_split(self, split: Split) -> LabelledImages | None:
        """Load a part of the data set as it is stored.

        Args:
            split: which part.

        Returns:
            The images, or ``None`` if the data set has no validation or test images of its own.

        Raises:
            UserError: the images cannot be had; always for missing training images.
        """

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def tests_on_validation(self) -> bool:
        """Whether the test images are the validation images, for want of others."""
        return self._split("test") is None

    @property
    def tested_validation_images(self) -> Tensor:
        """Positions of the validation images that are the test images, for want of others, int64 ``[N]``, ascending."""
        return self._tested(self._validation_images())

    @property
    def training_size(self) -> tuple[int, int]:
        """Height and width of the crops that augmentation takes, in pixels; here those of all images."""
        return self.image_shape[1:]

    @property
    def resize(self) -> nn.Module:
        """What brings a stored image ``[C, H', W']`` to the size that the network gets; here nothing."""
        return v2.Identity()

    @property
    def normalisation(self) -> nn.Module:
        """What makes numbers of pixels: uint8 in 0..255 or float32 in 0..1, to normalised float32."""
        return v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(self.mean, self.std)])

    def setup(self, stage: str) -> None:
        """Load what a stage needs; a part that is loaded already is kept.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.

        Raises:
            UserError: images are missing, broken, or unlike what the arguments say.
        """
        if stage == "fit":
            self._setup_training()
        if stage in ("fit", "validate"):
            self._setup_validation(required=stage == "validate")
        if stage in ("test", "predict"):
            self.test_dataset = self.evaluated(self._test_images())

    def train_dataloader(self) -> DataLoader:
        """Return the loader of augmented training images, this rank's part only.

        Raises:
            UserError: the rank has fewer images than one batch.
        """
        self._shared_out(self.train_dataset, "training image")
        sampler = self._training_sampler()
        if len(sampler) < self.batch_size:
            callbacks = getattr(self.trainer, "callbacks", ())
            grows = any(isinstance(callback, BatchSizeFinder) for callback in callbacks)
            raise UserError(
                f"batch_size is {self.batch_size}, but must be at most {len(sampler)}, the number of training images "
                f"per device{': give BatchSizeFinder, which doubles it, fewer max_trials' if grows else ''}."
            )
        return self._loader(self.train_dataset, ResumableLoader, sampler=sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Return the loader of validation images; an empty list where there is no validation.

        Raises:
            UserError: there are fewer images than ranks.
        """
        if self.val_dataset is None:
            return []
        self._shared_out(self.val_dataset, "validation image")
        return self._loader(self.val_dataset)

    def test_dataloader(self) -> DataLoader:
        """Return the loader of test images, this rank's part only.

        No image is repeated to give all ranks as many, as Lightning would do by itself, so that errors are exact.
        Ranks may differ by a batch, which is harmless: without training there is no message in a step.

        Raises:
            UserError: there are fewer images than ranks.
        """
        ranks = self._shared_out(self.test_dataset, "test image")
        sampler = UnrepeatedDistributedSampler(self.test_dataset, shuffle=False, **ranks) if ranks else None
        return self._loader(self.test_dataset, sampler=sampler)

    def predict_dataloader(self) -> DataLoader:
        """Return the loader of test images, or of those that :meth:`predict_on` was given.

        Raises:
            UserError: there are fewer images than ranks.
        """
        dataset = self.test_dataset if self._predicted is None else self._predicted
        self._shared_out(dataset, "image")
        return self._loader(dataset)

    def predict_on(self, images: Dataset[tuple[Tensor, int]]) -> None:
        """Let ``predict`` run over other images, stored as the data set's own are.

        Raises:
            UserError: their size or number of channels is another than that of the data set's own images.
        """
        self._predicted = self.evaluated(images)

    def evaluated(self, images: Dataset[tuple[Tensor, int]]) -> EvaluationImages:
        """Return stored images, of this data set or from elsewhere, as the network gets them in evaluation.

        Args:
            images: data set of ``(image, label)``; image ``[C, H, W]``, uint8 in 0..255 or float32 in 0..1. Those in
                colour are made grey where the data set's own are.

        Raises:
            UserError: their size or number of channels is another than that of the data set's own images.
        """
        own_channels = getattr(self, "image_shape", (None,))[0]
        if own_channels == 1 and isinstance(images, LabelledImages) and len(images[0][0]) == 3:
            images = GreyImages(images)
        self._see_shape(images)
        return EvaluationImages(images, self.resize, self.normalisation, self.classes)

    def unaugmented_training_images(self) -> EvaluationImages:
        """Return the training images as the network gets images in evaluation: in order, and not augmented.

        Raises:
            UserError: there are no training images.
        """
        return self.evaluated(self._training_parts()[0])

    def _split(self, split: Split) -> LabelledImages | None:
        if split not in self._loaded:
            self._loaded[split] = self.load_split(split)
        return self._loaded[split]

    def _training_parts(self) -> tuple[Dataset[tuple[Tensor, int]], Dataset[tuple[Tensor, int]] | None]:
        """Return the training images and those held out of them, ``None`` where there are none to hold out."""
        images = self._split("train")
        assert images is not None, "load_split must raise where there are no training images"
        fraction = 0.0 if self._split("val") is not None else self.validation_fraction
        kept, held_out = hold_out(images.labels, fraction, self.seed)
        training = some_of(images, limit(kept, self.train_limit, self.seed))
        return training, some_of(images, held_out) if len(held_out) else None

    def _validation_images(self) -> Dataset[tuple[Tensor, int]]:
        own = self._split("val")
        images = own if own is not None else self._training_parts()[1]
        if images is None:
            raise UserError(
                f"There are no validation images: validation_fraction is {self.validation_fraction}, and must be above "
                "0, with two or more training images in a class, to hold some out."
            )
        return images

    def _test_images(self) -> Dataset[tuple[Tensor, int]]:
        own = self._split("test")
        images = own if own is not None else self._validation_images()
        if self.test_limit is None:
            return images
        return some_of(images, self._tested(images))

    def _tested(self, images: Dataset) -> Tensor:
        positions = torch.arange(len(images))  # type: ignore[arg-type]
        return limit(positions, self.test_limit, self.seed, "test")

    def _setup_training(self) -> None:
        images, _ = self._training_parts()
        self._see_shape(images)
        alternating = self.augmentation in ALTERNATING
        augment = make_augmentation(self.augmentation, self.training_size, self.resize, alternating)
        transform = v2.Compose([augment, self.normalisation, make_erasure(self.augmentation)])
        self.train_dataset = AugmentedImages(images, transform, self.seed, alternating)

    def _setup_validation(self, required: bool) -> None:
        wanted = required or self.validation_fraction > 0 or self._split("val") is not None
        self.val_dataset = self.evaluated(self._validation_images()) if wanted else None

    def _see_shape(self, images: Dataset[tuple[Tensor, int]]) -> None:
        """Set ``image_shape`` from the first image; all parts of a data set must agree on it."""
        channels, height, width = self.resize(images[0][0]).shape
        _demand(len(self.mean) == channels, "mean", list(self.mean), f"one number for each of {channels} channels")
        shape = (channels, height, width)
        if getattr(self, "image_shape", shape) != shape:
            raise UserError(
                f"The images of one part are {height}×{width} pixels (height × width) and those of another "
                f"{self.image_shape[1]}×{self.image_shape[2]}: set image_size to bring them to one size."
            )
        self.image_shape = shape

    def _shared_out(self, dataset: Dataset, what: str) -> dict[str, Any] | None:
        """Return how many ranks share a data set out, and which one this is; none where it is not shared out.

        Raises:
            UserError: there is not one image for each.
        """
        ranks = self.trainer.distributed_sampler_kwargs if self.trainer is not None else None
        number: int = len(dataset)  # type: ignore[arg-type]
        if ranks and number < ranks["num_replicas"]:
            raise UserError(
                f"{number} {what}{'s' if number > 1 else ''} for {ranks['num_replicas']} processes: set "
                f"trainer.devices to {number}{' or fewer' if number > 1 else ''}"
            )
        return ranks

    def _training_sampler(self) -> EpochSampler:
        if self.trainer is None:
            return EpochSampler(self.train_dataset, self.seed)
        sampler = EpochSampler(self.train_dataset, self.seed, **(self.trainer.distributed_sampler_kwargs or {}))
        # On resuming, Lightning lets the workers fetch their first batches before it calls set_epoch.
        loop: Any = self.trainer.fit_loop
        epochs, batches = loop.epoch_progress.current, loop.epoch_loop.batch_progress.current
        within = loop.restarting and epochs.processed < epochs.ready
        sampler.begin_at(epochs.processed, self.batch_size * batches.processed if within else 0)
        return sampler

    def _loader(self, dataset: Dataset, kind: type[DataLoader] = DataLoader, **kwargs: Any) -> DataLoader:
        end_workers_at_exit()
        return kind(
            dataset,
            batch_size=self.batch_size,
            generator=torch.Generator().manual_seed(self.seed),  # of workers' seeds; else of torch's own, for dropout
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            worker_init_fn=begin_worker,
            **kwargs,
        )


def _demand(condition: bool, name: str, value: object, right: str) -> None:
    if not condition:
        raise UserError(f"{name} is {value}, but must be {right}.")
