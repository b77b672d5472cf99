"""A new class for a trained classifier, from a few images: its filter is trained, judged, and kept."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from rich.progress import Progress
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset
from torchvision.transforms import v2

import editable.callbacks.new_class.report as report
from editable.callbacks.new_class.grown_files import write_grown_network
from editable.callbacks.new_class.judging import JudgedLogit, judge_trials
from editable.callbacks.new_class.look import Look, classifier_of, grow_with, grow_with_discriminant, look_at
from editable.callbacks.new_class.maps import maps_of
from editable.callbacks.new_class.outcome import Kept, NewClassOutcome
from editable.callbacks.new_class.training import NewClassTraining, read_class_images
from editable.callbacks.new_class.trial import NewClassTrial, TrialSettings
from editable.callbacks.run.context import image_data, network_of, require_gradients, run_folder
from editable.callbacks.run.edit_loop import progress_bars, whole_loader
from editable.callbacks.run.read_ahead import read_all
from editable.callbacks.run.subcommand import Subcommand
from editable.callbacks.site.sets import validation_images
from editable.data import ImageDataModule
from editable.data.classes import ClassName, ClassNames, class_numbers, is_none, name_key, name_text
from editable.data.concepts.class_images import ClassImages
from editable.data.images.images import ImageFiles
from editable.errors import (
    UserError,
    require_at_least,
    require_choice,
    require_not_negative,
    require_seed,
    require_within,
)
from editable.metrics import RocCurve
from editable.models import GrownNetwork, LogitKind, Pooling
from editable.models.added.classifier import find_classifier
from editable.rewriting import LayerBlock
from editable.rewriting.new_class.class_discriminant import ClassDiscriminant
from editable.rewriting.new_class.class_filter import ClassFilterTraining, make_filter_examples
from editable.rewriting.new_class.logit_calibration import LogitCalibration
from editable.rewriting.new_class.negatives import NegativeChoice

__all__ = ["NewClass"]

WHAT = "a new class"

Pool = Literal["val", "train"]
"""Images of old classes that negatives are taken from."""


class NewClass(Subcommand):
    """Adds a class to a tested classifier from a few images of it, and judges the grown classifier, in ``test``.

    One new filter beside a layer learns the class's silhouette, and one new logit reads it alone, so that the logits of
    the old classes stay as they are (Elango 2021, "Rewriting the Rules of a Classifier", ch. 4). The new logit is
    scaled and shifted on images of old classes, so that it takes few of them; see
    :func:`~editable.rewriting.calibrate_logit`. With ``discriminant``, linear discriminants of the new class and of
    all old ones are made in closed form too, of what the last layer reads and, as a whitened filter, of what the
    filter's layer reads; the new logit is then normalised against the old ones, so that its probability is that of the
    discriminants. Beside all of these stand the three baselines of the source,
    which give the new class a row of the last layer's weights: a random one, the class's feature vector, and the sum of
    its parts' vectors.

    The data module holds the old classes. Its test images and those of the new class judge; its validation images (or
    training images) give negatives and calibrate.

    Logs, as means over draws, ``new_class_auc``, ``new_class_auc_probability``, ``new_class_recall``,
    ``new_class_lost``, ``new_class_accuracy_before`` and ``new_class_accuracy``, those of the baselines with their name
    behind (``new_class_auc_random``, ``…_class_vector``, ``…_compositional``), those of discriminants likewise
    (``…_discriminant``, ``…_whitened_filter``), and counts; ``docs/new-classes.md``
    defines them. Leaves ``new_class.csv``, figures, and of the first draw the grown network's weights,
    ``grown.safetensors``, with ``grown.yaml``, a configuration that loads them.

    Args:
        name: Name of the new class, none of the data module's.
        layer: Convolution beside which the filter stands, such as ``layer4.1.conv2``.
        images: Folder of images of the new class to learn from.
        test_images: Folder of other images of it, to judge by.
        masks: Where the class is in the images to learn from: a JSON file of outlines, a folder of mask images or COCO
            annotations; by default it fills them.
        num_positives: Number of images to learn from, drawn by seed; null takes all.
        num_draws: Number of times that examples are drawn and everything is repeated, to see how much hangs on them.
        negatives: Which images of old classes are negatives: ``random``, or ``top``, those that a filter trained on the
            positives alone responds to most.
        num_negatives: Number of negatives; 0 for none.
        pool: Which images of old classes negatives are taken from, and calibrate: ``val`` or ``train``.
        num_pool_images: At most so many of them, drawn by seed.
        training: How the filter is trained; its seed and that of the draw are added up.
        sweep: Further weights λ of the negatives to train filters with, for a table.
        pooling: What the new logit reads of its filter's map.
        max_loss: Part of the pool's images that may be given to the new class.
        baselines: Compare with the baselines; possible where the last layer is linear.
        components: Old classes, by name or number, whose images (one each, drawn by seed) show parts of the new class,
            for the compositional baseline; by default the two that the network takes the positives for most.
        component_masks: In place of ``components``: a JSON file of outlines of the parts in images beside it.
        seed: Of all draws; draw number d has seed + d.
        discriminant: How linear discriminants are made, where the last layer is linear; null makes none.
        mirrored: Make discriminants of the mean of what is read of each image to learn from and of its mirror image,
            for a class that mirror images belong to.
        keep: What the grown network that is left has of the new class: the ``filter``, the ``discriminant``, or the
            ``whitened_filter``.

    Attributes:
        outcome: Once it has run: what came of each method and draw is in ``outcome.figures``.
        settings: How examples are drawn, and what is trained on them.
        trials: What was made of each draw of examples, once it has run.

    Raises:
        UserError: If a number is out of its range, images or masks are missing; when it runs, if the class is known
            already, the layer does not do, images to learn from are among those to judge by, or the pool is tested on.
    """

    command = "new_class"
    leaves = ("grown.safetensors", "grown.yaml")
    summary, write = staticmethod(report.summary), staticmethod(report.write)

    def __init__(
        self,
        name: ClassName,
        layer: str,
        images: str,
        test_images: str,
        masks: str | None = None,
        num_positives: int | None = 1,
        num_draws: int = 1,
        negatives: NegativeChoice = "random",
        num_negatives: int = 100,
        pool: Pool = "val",
        num_pool_images: int = 5000,
        training: ClassFilterTraining | None = None,
        sweep: Sequence[float] = (),
        pooling: Pooling = "mean",
        max_loss: float = 0.01,
        baselines: bool = True,
        components: ClassNames | None = None,
        component_masks: str | None = None,
        seed: int = 0,
        discriminant: ClassDiscriminant | None = None,
        keep: Kept = "filter",
        mirrored: bool = False,
    ) -> None:
        require_at_least(1, num_draws=num_draws, num_pool_images=num_pool_images)
        require_at_least(1, num_positives=num_positives)
        require_at_least(0, num_negatives=num_negatives)
        require_not_negative(sweep=sweep)
        require_within("[0, 1)", max_loss=max_loss)
        require_seed(seed=seed)
        require_choice(NegativeChoice, negatives=negatives)
        require_choice(Pool, pool=pool)
        require_choice(Pooling, pooling=pooling)
        require_choice(Kept, keep=keep)
        if keep != "filter" and discriminant is None:
            raise UserError(f"keep is {keep!r}, which is made where discriminant is given: give it, or keep the filter")
        if components is not None and component_masks is not None:
            raise UserError("components and component_masks both name the parts of the new class: give one of the two")
        self.class_name, self.components = name_text(name), components
        learnt_from, self.test_images = ClassImages(images, masks), ClassImages(test_images)
        of_parts = None
        if component_masks is not None:
            of_parts = ClassImages(str(Path(component_masks).parent), component_masks)
        learnt_from.draw(num_positives, seed)  # raises where there are fewer
        training = training or ClassFilterTraining()
        negative_weights = sorted({training.negative_weight, *sweep})
        if negative_weights[-1] > 0 and num_negatives == 0:
            raise UserError(
                f"num_negatives is 0, but negatives have a weight of {negative_weights[-1]:g}: take some, or set "
                "training.negative_weight to 0"
            )
        self.settings = TrialSettings(
            layer=layer,
            images=learnt_from,
            num_positives=num_positives,
            num_draws=num_draws,
            negatives=negatives,
            num_negatives=num_negatives,
            training=training,
            negative_weights=negative_weights,
            baselines=baselines,
            components=None,  # their labels are known with the data
            component_images=of_parts,
            seed=seed,
            discriminant=discriminant,
            mirrored=mirrored,
        )
        self.keep = keep
        self.pool, self.num_pool_images = pool, num_pool_images
        self.pooling, self.max_loss = pooling, max_loss
        self.outcome: NewClassOutcome | None = None
        self.trials: list[NewClassTrial] = []
        self._calibration: LogitCalibration | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make it fail, before anything is computed."""
        require_gradients(trainer.test_loop.inference_mode, "a filter is trained by gradients")
        data = image_data(trainer, WHAT)
        if name_key(self.class_name) in map(name_key, data.classes):
            raise UserError(f"the data have a class '{self.class_name}' already: a new class needs a name of its own")
        components = None
        if self.components is not None and not is_none(self.components, data.classes):
            components = class_numbers(self.components, data.classes, "new_class.components")
        self._pool_images(data)
        block = LayerBlock(classifier_of(network_of(pl_module)), self.settings.layer)
        self.settings = replace(self.settings, layer=block.layer, components=components)
        make_filter_examples(block, read_class_images(self.settings.images, [0], data, pl_module.device)[0])
        self._read_ahead(trainer, data)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train filters, judge them, and keep the first."""
        data, network = image_data(trainer, WHAT), network_of(pl_module)
        pool = self._pool_images(data)
        with progress_bars(trainer) as progress:
            of_pool = self._look(network, data, pool, [], pl_module.device, progress, "images of old classes")
            training = NewClassTraining(
                self.settings,
                network,
                data,
                pl_module.device,
                pool,
                of_pool,
                lambda some: (
                    self._look(network, data, pool, some, pl_module.device, progress, "false positives").pooled
                ),
            )
            self.trials = training(progress)
            filters = [one.weight for trial in self.trials for one in trial.filters]
            again = self._look(network, data, pool, filters, pl_module.device, progress, "calibration")
            test = self._test_images(trainer, of_pool.old_logits.shape[1])
            of_test = self._look(network, data, test, filters, pl_module.device, progress, "test images")
        judged = list(judge_trials(self.trials, of_pool._replace(pooled=again.pooled), of_test, self.max_loss))
        weight = self.settings.training.negative_weight if self.keep == "filter" else None
        kept = (self.keep.replace("_", " "), weight, 0)
        (self._calibration,) = (one.calibration for one in judged if one.figures[:3] == kept)
        folder, configuration = run_folder(trainer), None
        if trainer.is_global_zero:
            layer = self._kept_layer(network)
            logit: LogitKind = "filter" if self.keep == "filter" else "discriminant"
            configuration = write_grown_network(folder, self.grown(network), layer, self.pooling, logit)
        self.outcome = self._outcome(data, judged, of_test, configuration)
        pl_module.log_dict({f"new_class_{name}": value for name, value in self.outcome.values().items()})

    def _read_ahead(self, trainer: Trainer, data: ImageDataModule) -> None:
        """Read the images of the new class and of its parts, and those that judge it, before anything is trained."""
        self._pool_images(data)
        for images in filter(None, (self.settings.images, self.settings.component_images)):
            for position in range(len(images)):
                shape = read_class_images(images, [position], data, torch.device("cpu"))[0].shape[1:]
                if shape != torch.Size(data.image_shape):
                    raise UserError(
                        f"the image {images.paths[position]} is {list(shape)} (channels, height, width), the data "
                        f"module's images {list(data.image_shape)}: set the data module's image_size"
                    )
        *_, new = self._test_images(trainer, data.num_classes).datasets
        read_all(new, data, "test image of the new class")
        learnt_from = {_content(path): path for path in self.settings.images.paths}
        for path in self.test_images.paths:
            if (same := learnt_from.get(_content(path))) is not None:
                raise UserError(
                    f"the image {same} is to learn from and to judge by, as {path}: it can be only one of the two"
                )

    def grown(self, network: nn.Module) -> GrownNetwork:
        """Return a network grown by what is kept of the first draw: its filter, of the training's own λ, or another.

        What the network had is not copied.
        """
        assert self._calibration is not None, "there is a filter once it has run"
        first = self.trials[0]
        if self.keep == "filter":
            weight = first.filters[self.settings.kept].weight
            return grow_with(network, self.settings.layer, [weight], self.pooling, *self._calibration)
        made = first.discriminants[self.keep.replace("_", " ")]
        return grow_with_discriminant(network, self._kept_layer(network), made, self._calibration.bias)

    def _kept_layer(self, network: nn.Module) -> str:
        """Return the layer beside which stands what is kept."""
        if self.keep == "discriminant":
            return find_classifier(classifier_of(network), "a discriminant")[0]
        return self.settings.layer

    def _outcome(
        self, data: ImageDataModule, judged: Sequence[JudgedLogit], of_test: Look, configuration: str | None
    ) -> NewClassOutcome:
        """Return all that is told of what was made, judged and kept."""
        weight, first = self.settings.training.negative_weight, self.trials[0]
        curves: dict[str, list[RocCurve]] = {}
        for figures, curve, _ in judged:
            if figures.negative_weight in (None, weight):
                curves.setdefault(figures.method, []).append(curve)
        old = of_test.labels < of_test.old_logits.shape[1]
        right = (of_test.old_logits.argmax(dim=1) == of_test.labels)[old]
        return NewClassOutcome(
            name=self.class_name,
            layer=self.settings.layer,
            negatives=self.settings.negatives,
            negative_weight=weight,
            max_loss=self.max_loss,
            num_positives=len(first.positives),
            num_negatives=len(first.negatives),
            num_old_test_images=int(old.sum()),
            num_new_test_images=int((~old).sum()),
            accuracy_before=right.double().mean().item(),
            figures=[one.figures for one in judged],
            curves=curves,
            maps=maps_of(first, first.filters[self.settings.kept], data.mean, data.std),
            configuration=configuration,
            kept=self.keep,
        )

    def _pool_images(self, data: ImageDataModule) -> Dataset:
        if self.pool == "train":
            images: Dataset = data.unaugmented_training_images()
        else:
            images = validation_images(data, "which negatives must not be taken from: set pool to train")
        generator = torch.Generator().manual_seed(self.settings.seed)
        order = torch.randperm(len(images), generator=generator)  # type: ignore[arg-type]
        return Subset(images, order[: self.num_pool_images].sort().values.tolist())

    def _test_images(self, trainer: Trainer, label: int) -> ConcatDataset:
        data, paths = image_data(trainer, WHAT), self.test_images.paths
        size = data.image_shape[1:] if isinstance(data.resize, v2.Identity) else None
        new = data.evaluated(ImageFiles(paths, torch.full((len(paths),), label), size))
        return ConcatDataset([whole_loader(trainer.test_dataloaders).dataset, new])

    def _look(
        self,
        network: nn.Module,
        data: ImageDataModule,
        images: Dataset,
        filters: list[Tensor],
        device: torch.device,
        progress: Progress,
        description: str,
    ) -> Look:
        """Run images through the network and filters, with a progress bar."""
        loader: DataLoader = DataLoader(images, data.batch_size, num_workers=data.num_workers)
        task = progress.add_task(description, total=len(images))  # type: ignore[arg-type]
        found = look_at(
            network,
            self.settings.layer,
            filters,
            self.pooling,
            loader,
            self.settings.baselines or self.settings.discriminant is not None,
            device,
            lambda number: progress.advance(task, number),
            self.settings.discriminant is not None,
        )
        progress.remove_task(task)
        return found


def _content(path: Path) -> bytes:
    """Return what a file is known by, whatever its name."""
    return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
