"""Judge an edited network beside the unedited one: four tests on random, confusing and mislabelled images."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

import editable.callbacks.judge.report as report
from editable.callbacks.judge.image_sets import (
    ImageSet,
    confusing_images,
    is_one_of,
    mislabelled_images,
    random_images,
)
from editable.callbacks.judge.judged_images import JudgedImages, accuracies, judge, judge_set
from editable.callbacks.judge.outcome import FourTestsOutcome
from editable.callbacks.judge.unfinished import NAME, SeenImages, UnfinishedJudgement, joined, read_judgement
from editable.callbacks.run.context import image_data, network_of, optional_path, run_folder
from editable.callbacks.run.edit_loop import progress_bars, whole_loader
from editable.callbacks.run.image_identity import images_identity
from editable.callbacks.run.image_shares import ImageShares
from editable.callbacks.run.read_ahead import read_finders
from editable.callbacks.run.replaced_examples import ReplacedExamples
from editable.callbacks.run.subcommand import Subcommand
from editable.data import ImageDataModule
from editable.data.classes import ClassName, ClassNames, class_numbers, is_none, name_text, named_classes
from editable.errors import UserError, require_at_least, require_seed, require_within
from editable.models import fingerprint, load_weights, logits_of
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
    ``roc_areas.csv``, figures, and ``judge.safetensors`` with what became of each image, kept every ten seconds.

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
        resume: Folder of a judgement that was interrupted: its finished images are taken over.

    Attributes:
        outcome: What came out, with each set's figures and curves in ``outcome.sets``; none before it has run.

    Raises:
        UserError: If a number is out of its range; when it runs, if there is no such class, images are of the target
            classes alone or of none, the edited network is missing or another one, the judgement in the folder was
            another one, or the concept is found nowhere.
    """

    command, kept = "judge", NAME
    leaves = (NAME,)
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
        resume: str | None = None,
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
        self.resume = optional_path(resume)
        self.outcome: FourTestsOutcome | None = None
        self._edited_network: nn.Module | None = None
        self._unfinished: UnfinishedJudgement | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make it fail, and let what finds the concept look at the network and the images."""
        data, network = image_data(trainer, WHAT), network_of(pl_module)
        targets, _ = self._asked(data.classes)
        is_one_of(ImageShares.labels_of(data), targets)
        read_finders([self.concept.finder, self.activation], data)
        self._edited_network = deepcopy(network)
        if self.edited is not None:
            load_weights(self._edited_network, self.edited)
        identity = self._identity(network, data)
        finished = {} if self.resume is None else read_judgement(self.resume, identity)
        self._unfinished = UnfinishedJudgement(run_folder(trainer), trainer.global_rank, identity, finished)
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
        assert self._unfinished is not None, "likewise"
        data, network = image_data(trainer, WHAT), network_of(pl_module)
        targets, noise = self._asked(data.classes)
        both = _Both(network, self._edited_network, data.normalisation)
        with progress_bars(trainer) as progress, torch.no_grad():
            shares = ImageShares(trainer, data, pl_module.device, progress)
            same = is_one_of(shares.labels, targets)
            passes = _Passes(shares, self._unfinished, targets, noise)
            try:
                sets = self._choose(passes, shares.labels)
                chosen = torch.stack([images.chosen for images in sets.values()]).any(dim=0)
                in_turn = _in_turn(chosen, same)
                manipulated = passes.manipulated(in_turn, self.concept, both)
                normal = passes.normal(both)
            finally:
                self._unfinished.write()
            there = _there(manipulated, len(same))
            examples = self._examples(shares, [position for position in in_turn if there[position]][:MOST_SHOWN])
        confusing = sets["confusing"]
        sets["confusing"] = replace(confusing, chosen=confusing.chosen & there)
        accuracy_before, accuracy = accuracies(normal, shares.labels)
        self.outcome = FourTestsOutcome(
            target=[data.classes[label] for label in targets],
            noise=None if noise is None else data.classes[noise],
            edited=None if self.edited is None else Path(self.edited).name,
            confusing_share=self.confusing_share,
            seed=self.seed,
            num_images=len(shares.labels),
            accuracy_before=accuracy_before,
            accuracy=accuracy,
            sets={name: judge_set(images, same, shares.labels, (normal, manipulated)) for name, images in sets.items()},
            examples=examples,
        )
        pl_module.log_dict({f"judge_{name}": value for name, value in self.outcome.values().items()})

    def _asked(self, classes: Sequence[str]) -> tuple[list[int], int | None]:
        """Return the labels of the target classes and of the noise class."""
        targets = class_numbers(self.target, classes, "judge.target")
        noise = [] if is_none(self.noise, classes) else class_numbers([self.noise], classes, "judge.noise")
        return targets, noise[0] if noise else None

    def _choose(self, passes: "_Passes", labels: Tensor) -> dict[str, ImageSet]:
        """Choose the sets; concept and activation must be prepared."""
        sets = {
            "random": random_images(labels, self.num_random_images, self.seed),
            "confusing": confusing_images(labels, passes.activations(self.activation), self.confusing_share),
        }
        if passes.noise is not None:
            sets["mislabelled"] = mislabelled_images(labels, passes.targets, passes.noise)
        return sets

    def _examples(self, shares: ImageShares, positions: Sequence[int]) -> ReplacedExamples:
        """Return some manipulated images, those of all processes."""
        own = []
        for images, names, _ in shares.batches(positions, "examples"):
            replaced = self.concept(images, names)
            own.append(ReplacedExamples(images.cpu(), replaced.images.cpu(), replaced.masks.cpu(), names))
        return ReplacedExamples.join(shares.gather(own))

    def _identity(self, network: nn.Module, data: ImageDataModule) -> dict[str, Any]:
        """Return what the figures depend on, as JSON holds it."""
        assert self._edited_network is not None, "it is there before the identity is asked for"
        targets, noise = self._asked(data.classes)
        return {
            "weights": fingerprint(network.state_dict()),
            "edited": None if self.edited is None else fingerprint(self._edited_network.state_dict()),
            "target": targets,
            "noise": noise,
            "concept": dict(self.concept.settings),
            "activation": {"class": type(self.activation).__name__, **self.activation.settings},
            "num_random_images": self.num_random_images,
            "confusing_share": self.confusing_share,
            "seed": self.seed,
            "images": images_identity(data.test_dataset),
            "batch_size": data.batch_size,  # rounding differs with it
        }


class _Passes:
    """The three ways through the test images, each kept as it goes, and gone on with where it was interrupted."""

    def __init__(
        self, shares: ImageShares, unfinished: UnfinishedJudgement, targets: Sequence[int], noise: int | None
    ) -> None:
        self._shares, self._unfinished = shares, unfinished
        self.targets, self.noise = targets, noise

    def activations(self, finder: ConceptFinder) -> Tensor:
        """Return how strongly the concept is seen in each image, float64 [N]."""

        def see(images: Tensor, names: list[str], positions: Tensor) -> SeenImages:
            return SeenImages(positions, finder.activation(images, names).double().cpu())

        every = range(len(self._shares.labels))
        return self._through("seen", every, "where the concept is seen", see).activations

    def manipulated(self, positions: Sequence[int], concept: ConceptReplacement, both: "_Both") -> JudgedImages:
        """Judge images with the concept replaced."""

        def look(images: Tensor, names: list[str], positions: Tensor) -> JudgedImages:
            replaced = concept(images, names)
            return self._judge(both, replaced.images, positions, replaced.found)

        return self._through("manipulated", positions, "manipulated images", look)

    def normal(self, both: "_Both") -> JudgedImages:
        """Judge all images as they are."""

        def look(images: Tensor, names: list[str], positions: Tensor) -> JudgedImages:
            return self._judge(both, images, positions, torch.ones(len(images), dtype=torch.bool))

        return self._through("normal", range(len(self._shares.labels)), "test images", look)

    def _judge(self, both: "_Both", images: Tensor, positions: Tensor, found: Tensor) -> JudgedImages:
        """Run those images through both networks in which there is something to judge."""
        found = found.cpu()
        nothing = torch.zeros(0, max([*self.targets, self.noise or 0]) + 1)
        logits = both(images[found.to(images.device)]) if found.any() else (nothing, nothing)
        labels = self._shares.labels[positions]
        return judge(logits, positions, found, labels, self.targets, self.noise)

    def _through(self, name: str, positions: Sequence[int], description: str, look: Callable[..., Any]) -> Any:
        finished = self._unfinished.finished(name)
        for images, names, numbers in self._shares.batches(positions, description, finished):
            self._unfinished.keep(name, look(images, names, numbers))
        return joined(self._shares.gather(self._unfinished.own(name)))


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


def _there(manipulated: JudgedImages, count: int) -> Tensor:
    """Return of each of some images whether the concept was found in it, bool [count]; raise where it is nowhere."""
    if not manipulated.found.any():
        raise UserError(
            f"the concept is found in none of the {len(manipulated.found)} images that were looked at: look for it "
            "with a lower threshold, or with masks whose names are those of the test images"
        )
    there = torch.zeros(count, dtype=torch.bool)
    there[manipulated.positions[manipulated.found]] = True
    return there
