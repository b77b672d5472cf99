"""Drawing examples of a new class, and training filters and making baselines from them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.utils.data import Dataset

from editable.callbacks.new_class.look import Look, classifier_of, pooled_keys
from editable.callbacks.new_class.trial import NewClassTrial, TrialSettings
from editable.data import ImageDataModule
from editable.data.concepts.class_images import ClassImages
from editable.data.images.frame import Frame
from editable.data.images.grey import to_grey
from editable.errors import UserError
from editable.rewriting import LayerBlock
from editable.rewriting.new_class.class_discriminant import Discriminant, class_statistics
from editable.rewriting.new_class.class_filter import ClassFilterTraining, FilterExamples, make_filter_examples
from editable.rewriting.new_class.class_filter_sweep import activations, train_for_each_weight
from editable.rewriting.new_class.class_vectors import class_vector, compositional_vector, random_vector
from editable.rewriting.new_class.final_features import FinalFeatures
from editable.rewriting.new_class.negatives import random_negatives, top_false_positives

__all__ = ["NewClassTraining", "read_class_images"]


@dataclass(frozen=True)
class NewClassTraining:
    """Makes the trials of a run, one for each draw of examples.

    Args:
        settings: How examples are drawn, and what is trained on them.
        network: The classifier that grows.
        data: The data module of the old classes.
        device: Where the network is.
        pool: Images of old classes to take negatives and parts of the new class from.
        of_pool: What the network makes of them.
        score_pool: Called with filters: their pooled maps on the pool, [N, F].
    """

    settings: TrialSettings
    network: nn.Module
    data: ImageDataModule
    device: torch.device
    pool: Dataset
    of_pool: Look
    score_pool: Callable[[list[Tensor]], Tensor]

    def __call__(self, progress: Progress) -> list[NewClassTrial]:
        """Draw, train and compare.

        Raises:
            UserError: If there are fewer images than wanted, or the layer or the examples do not do.
        """
        settings = self.settings
        block = LayerBlock(classifier_of(self.network), settings.layer)
        drawn = [
            self._read(settings.images, settings.images.draw(settings.num_positives, settings.seed + draw))
            for draw in self._draws
        ]
        steps = settings.num_draws * len(settings.negative_weights) * settings.training.num_steps
        negatives = self._choose_negatives(block, drawn)
        discriminants = self._discriminants()
        task = progress.add_task("training filters", total=steps)
        trials = []
        for draw, (positives, masks), chosen in zip(self._draws, drawn, negatives, strict=True):
            others = _some_images(self.pool, chosen) if len(chosen) else positives[:0].cpu()
            examples = make_filter_examples(block, positives, masks, others.to(self.device))
            filters = train_for_each_weight(
                block,
                examples,
                settings.negative_weights,
                self._training(draw),
                lambda done: progress.advance(task, done),
            )
            active = [activations(block, examples, one.weight) for one in filters]
            vectors = self._vectors(draw, positives, masks) if settings.baselines else {}
            trial = NewClassTrial(block, positives.cpu(), chosen, others, examples, filters, active, vectors)
            trials.append(trial._replace(discriminants=discriminants(positives, masks, block, examples)))
        progress.remove_task(task)
        return trials

    @property
    def _draws(self) -> range:
        return range(self.settings.num_draws)

    def _training(self, draw: int) -> ClassFilterTraining:
        return replace(self.settings.training, seed=self.settings.training.seed + self.settings.seed + draw)

    def _read(self, images: ClassImages, positions: list[int]) -> tuple[Tensor, Tensor]:
        return read_class_images(images, positions, self.data, self.device)

    def _choose_negatives(self, block: LayerBlock, drawn: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """Return, for each draw, the positions of its negatives in the pool."""
        settings, number = self.settings, len(self.pool)  # type: ignore[arg-type]
        if settings.negatives == "random":
            return [random_negatives(number, settings.num_negatives, settings.seed + draw) for draw in self._draws]
        alone = [
            replace(self._training(draw), negative_weight=0.0)(block, make_filter_examples(block, *examples)).weight
            for draw, examples in zip(self._draws, drawn, strict=True)
        ]
        scores = self.score_pool(alone)
        return [top_false_positives(scores[:, draw], settings.num_negatives) for draw in self._draws]

    def _discriminants(self) -> Callable[[Tensor, Tensor, LayerBlock, FilterExamples], dict[str, Discriminant]]:
        """Return what makes the discriminants of a draw; the statistics of old classes are computed once."""
        make, pool = self.settings.discriminant, self.of_pool
        if make is None:
            return lambda *_: {}
        assert pool.features is not None, "features were asked for"
        assert pool.keys is not None, "keys were asked for"
        num_old = pool.old_logits.shape[1]
        of_features, of_keys = (class_statistics(some, pool.labels, num_old) for some in (pool.features, pool.keys))
        final, mirrored = FinalFeatures(classifier_of(self.network)), self.settings.mirrored

        def discriminants(
            positives: Tensor, masks: Tensor, block: LayerBlock, examples: FilterExamples
        ) -> dict[str, Discriminant]:
            features = final.of_part(positives, masks)
            keys = pooled_keys(block, examples.positives, examples.silhouettes)
            if mirrored:
                other = positives.flip(-1), masks.flip(-1)
                seen = make_filter_examples(block, *other)
                features = (features + final.of_part(*other)) / 2
                keys = (keys + pooled_keys(block, seen.positives, seen.silhouettes)) / 2
            return {"discriminant": make(features, of_features), "whitened filter": make(keys, of_keys)}

        return discriminants

    def _vectors(self, draw: int, positives: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Return the baselines."""
        final = FinalFeatures(classifier_of(self.network))
        features = final.of_part(positives, masks)
        return {
            "random": random_vector(features.shape[1], self.settings.seed + draw),
            "class vector": class_vector(features),
            "compositional": compositional_vector(self._features_of_parts(final, draw, positives)),
        }

    def _features_of_parts(self, final: FinalFeatures, draw: int, positives: Tensor) -> Tensor:
        parts = self.settings.component_images
        if parts is not None:
            return final.of_part(*self._read(parts, list(range(len(parts)))))
        if self.settings.components is not None:
            labels = self.settings.components
        else:
            labels = (
                final(positives)[0].softmax(dim=1).mean(dim=0).topk(min(2, len(self.data.classes))).indices.tolist()
            )
        positions = torch.tensor([self._draw_of_class(label, draw) for label in labels])
        return final.of_part(_some_images(self.pool, positions).to(self.device))

    def _draw_of_class(self, label: int, draw: int) -> int:
        positions = (self.of_pool.labels == label).nonzero().flatten()
        if not len(positions):
            raise UserError(
                f"none of the {len(self.of_pool.labels)} images of old classes is of '{self.data.classes[label]}', a "
                "part of the new class: raise num_pool_images, or name other components"
            )
        generator = torch.Generator().manual_seed(self.settings.seed + draw)
        return int(positions[torch.randint(len(positions), (1,), generator=generator)])


def read_class_images(
    images: ClassImages, positions: list[int], data: ImageDataModule, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return images of a class as a data module's networks take them, [n, C, H, W], and masks, [n, H, W]."""
    frame = Frame(getattr(data, "image_size", None), getattr(data, "resize_size", None))
    stored, masks = images.read(positions, frame)
    if data.image_shape[0] == 1:
        stored = torch.stack([to_grey(image) for image in stored])
    return data.normalisation(stored).to(device), masks.to(device)


def _some_images(dataset: Dataset, positions: Tensor) -> Tensor:
    """Return some images of a data set, [n, C, H, W]."""
    return torch.stack([torch.as_tensor(dataset[position][0]) for position in positions.tolist()])
