"""Judge an edited network beside the unedited one: four tests on random, confusing and mislabelled images."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torchmetrics import MeanMetric

import editable.callbacks.judge.report as report
from editable.callbacks.judge.image_sets import (
    ImageSet,
    confusing_images,
    is_one_of,
    mislabelled_images,
    random_images,
)
from editable.callbacks.judge.judged_set import JudgedSet
from editable.callbacks.judge.outcome import FourTestsOutcome
from editable.callbacks.run.context import image_data, network_of
from editable.callbacks.run.edit_loop import progress_bars, whole_loader
from editable.callbacks.run.image_shares import ImageShares
from editable.callbacks.run.read_ahead import read_finders
from editable.callbacks.run.replaced_examples import ReplacedExamples
from editable.callbacks.run.subcommand import Subcommand
from editable.data.classes import ClassName, ClassNames, class_numbers, is_none, name_text, named_classes
from editable.errors import UserError, require_at_least, require_seed, require_within
from editable.models import load_weights, logits_of
from editable.rewriting.concepts.concept_finder import ConceptFinder
from editable.rewriting.concepts.concept_replacement import ConceptReplacement

__all__ = ["FourTests"]

WHAT = "a judgement of an edit"
MOST_SHOWN = 8
"""Manipulated images in the report."""


class FourTests(Subcommand):
    """Compares a trained network with an edited one: what the edit does to images with and without the new concept.

    In ``judge``: normal and manipulated test images, of the target classes and of others, accuracy and confidence
    before and after, and ROC curves of the target classes (Elango 2021, section 2.2), on three sets of test images:
    ``random``; ``confusing``, those in which the old concept is seen most; and, where a noise class is given,
    ``mislabelled``, all images of the target classes under its label, beside its own. Manipulated images are those in
    which the concept is found, with the new one in its place. Neither network changes.

    Logs, with ``judge_`` before each: ``accuracy_before``, ``accuracy`` and ``drop`` on all test images,
    ``<set>_num_images``, ``<set>_<version>_auc_before`` and ``<set>_<version>_auc``, ``<set>_<version>_<group>_…`` with
    ``num_images``, ``accuracy_before``, ``accuracy``, ``confidence_before`` and ``confidence``; version is ``normal``
    or ``manipulated``, group ``same`` or ``other``. What is undefined is left out. Leaves ``four_tests.csv``,
    ``roc_areas.csv`` and figures.

    Args:
        target: The class that the rule is about, or several.
        concept: Finds the old concept in images, and puts the new one in its place.
        edited: Weights of the edited network, of the same architecture: a checkpoint or a ``.safetensors`` file, read
            as data. Null judges the network itself, as an edit that changes nothing.
        noise: The class that images of the target are called by in the mislabelled set; null makes none.
        activation: Tells how strongly the old concept is seen in an image, to choose confusing ones; by default what
            finds it.
        num_random_images: Largest number of random images.
        confusing_share: Part of the test images that is confusing, rounded up to whole images; those of them in which
            the concept is not found are left out.
        seed: Of the random images.

    Attributes:
        outcome: What came out, with each set's figures and curves in ``outcome.sets``; none before it has run.

    Raises:
        UserError: If a number is out of its range; when it runs, if there is no such class, images are of the target
            classes alone or of none, the edited network is missing or another one, or the concept is found nowhere.
    """

    command = "judge"
    summary, write = staticmethod(report.summary), staticmethod(report.write)

    def __init__(
        self,
        target: ClassNames,
        concept: ConceptReplacement,
        edited: str | None = None,
        noise: ClassName | None = None,
        activation: ConceptFinder | None = None,
        num_random_images: int = 5000,
        confusing_share: float = 0.01,
        seed: int = 0,
    ) -> None:
        self.target = named_classes(target)
        self.concept, self.activation = concept, activation or concept.finder
        self.edited, self.noise = edited, None if noise is None else name_text(noise)
        if self.noise in self.target:
            raise UserError(
                f"judge.noise is '{noise}', which is one of the target classes: in the mislabelled set, images of the "
                "target are called by another class"
            )
        require_at_least(1, num_random_images=num_random_images)
        require_seed(seed=seed)
        require_within("(0, 1]", confusing_share=confusing_share)
        self.num_random_images, self.confusing_share, self.seed = num_random_images, confusing_share, seed
        self.outcome: FourTestsOutcome | None = None
        self._edited_network: nn.Module | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make it fail, and let what finds the concept look at the network and the images."""
        data, network = image_data(trainer, WHAT), network_of(pl_module)
        targets, _ = self._asked(data.classes)
        is_one_of(ImageShares.labels_of(data), targets)
        read_finders([self.concept.finder, self.activation], data)
        self._edited_network = deepcopy(network)
        if self.edited is not None:
            load_weights(self._edited_network, self.edited)
        loader, finders = whole_loader(trainer.test_dataloaders), {self.concept.finder, self.activation}
        with progress_bars(trainer) as progress:
            # Context matching goes through them twice; others need not.
            passes = 2 * len(finders) * len(loader.dataset)  # type: ignore[arg-type]
            task = progress.add_task("images in which the concept is looked for", total=passes)
            for finder in finders:
                finder.prepare(network, data.normalisation, loader, lambda images: progress.advance(task, images))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the sets, and run both networks on them."""
        assert self._edited_network is not None, "on_test_start makes it"
        data, network = image_data(trainer, WHAT), network_of(pl_module)
        targets, noise = self._asked(data.classes)
        both = _Both(network, self._edited_network, data.normalisation)
        with progress_bars(trainer) as progress, torch.no_grad():
            shares = ImageShares(trainer, data, pl_module.device, progress)
            same = is_one_of(shares.labels, targets)
            sets = {
                name: JudgedSet(images, same, targets, pl_module.device)
                for name, images in self._choose(targets, noise, shares).items()
            }
            examples = self._judge_manipulated(sets, both, shares, same)
            accuracy_before, accuracy = self._judge_normal(sets, both, shares)
        self.outcome = FourTestsOutcome(
            target=[data.classes[label] for label in targets],
            noise=None if noise is None else data.classes[noise],
            edited=None if self.edited is None else Path(self.edited).name,
            confusing_share=self.confusing_share,
            seed=self.seed,
            num_images=len(shares.labels),
            accuracy_before=accuracy_before,
            accuracy=accuracy,
            sets={name: judged.compute() for name, judged in sets.items()},
            examples=examples,
        )
        pl_module.log_dict({f"judge_{name}": value for name, value in self.outcome.values().items()})

    def _asked(self, classes: Sequence[str]) -> tuple[list[int], int | None]:
        """Return the labels of the target classes and of the noise class."""
        targets = class_numbers(self.target, classes, "judge.target")
        noise = [] if is_none(self.noise, classes) else class_numbers([self.noise], classes, "judge.noise")
        return targets, noise[0] if noise else None

    def _choose(self, targets: Sequence[int], noise: int | None, shares: ImageShares) -> dict[str, ImageSet]:
        """Choose the sets; concept and activation must be prepared."""
        labels = shares.labels
        activations = torch.zeros(len(labels), dtype=torch.float64)
        own = [
            (positions, self.activation.activation(images, names).double().cpu())
            for images, names, positions in shares.batches(range(len(labels)), "where the concept is seen")
        ]
        for positions, values in shares.gather(own):
            activations[positions] = values
        sets = {
            "random": random_images(labels, self.num_random_images, self.seed),
            "confusing": confusing_images(labels, activations, self.confusing_share),
        }
        if noise is not None:
            sets["mislabelled"] = mislabelled_images(labels, targets, noise)
        return sets

    def _judge_manipulated(
        self, sets: dict[str, JudgedSet], both: "_Both", shares: ImageShares, same: Tensor
    ) -> ReplacedExamples | None:
        """Judge images with the concept replaced, and return some; leave confusing ones out where it is not found."""
        chosen = torch.stack([judged.images.chosen for judged in sets.values()]).any(dim=0)
        own: list[Tensor] = []
        kept: list[ReplacedExamples] = []
        for images, names, positions in shares.batches(_in_turn(chosen, same), "manipulated images"):
            replaced = self.concept(images, names)
            found = replaced.found.cpu()
            if not found.any():
                continue
            logits = both(replaced.images[found])
            for judged in sets.values():
                judged.update(positions[found], *logits, manipulated=True)
            own.append(positions[found])
            if sum(len(some.names) for some in kept) < MOST_SHOWN:
                kept.append(_examples(images, replaced.images, replaced.masks, names, found))
        everywhere = shares.gather(own)
        if not everywhere:
            raise UserError(
                f"the concept is found in none of the {int(chosen.sum())} images that were looked at: look for it with "
                "a lower threshold, or with masks whose names are those of the test images"
            )
        there = torch.zeros_like(chosen)
        there[torch.cat(everywhere)] = True
        confusing = sets["confusing"]
        confusing.images = replace(confusing.images, chosen=confusing.images.chosen & there)
        if not kept:
            return None
        joined = ReplacedExamples.join(kept)
        return joined.take(range(min(len(joined.names), MOST_SHOWN)))

    def _judge_normal(self, sets: dict[str, JudgedSet], both: "_Both", shares: ImageShares) -> tuple[float, float]:
        """Judge images as they are; return the accuracy of both networks on all test images."""
        accuracies = [MeanMetric().to(shares.device) for _ in range(2)]
        for images, _, positions in shares.batches(range(len(shares.labels)), "test images"):
            logits = both(images)
            for judged in sets.values():
                judged.update(positions, *logits, manipulated=False)
            labels = shares.labels[positions].to(shares.device)
            for accuracy, some in zip(accuracies, logits, strict=True):
                accuracy.update((some.argmax(dim=-1) == labels).float())
        before, after = (accuracy.compute().item() for accuracy in accuracies)
        return before, after


class _Both:
    """The unedited and the edited network, called with images in [0, 1]."""

    def __init__(self, network: nn.Module, edited: nn.Module, normalise: Callable[[Tensor], Tensor]) -> None:
        self._networks, self._normalise = (network, edited), normalise

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        normalised = self._normalise(images)
        before, after = (logits_of(network(normalised)) for network in self._networks)
        return before, after


def _in_turn(chosen: Tensor, same: Tensor) -> list[int]:
    """Return chosen positions, those of target classes and others in turn, so that examples are of both."""
    positions = chosen.nonzero().flatten()
    groups = same[positions]
    place = torch.where(groups, groups.cumsum(dim=0), (~groups).cumsum(dim=0))
    return positions[place.argsort(stable=True)].tolist()


def _examples(images: Tensor, manipulated: Tensor, masks: Tensor, names: list[str], found: Tensor) -> ReplacedExamples:
    some = found.nonzero().flatten()[:MOST_SHOWN].to(images.device)
    originals, replaced, regions = (tensor[some].cpu() for tensor in (images, manipulated, masks))
    return ReplacedExamples(originals, replaced, regions, [names[index] for index in some.tolist()])
