"""Replace a concept in all test images that show it, and save what comes out as an image folder."""

import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

import editable.callbacks.manipulate.report as report
from editable.callbacks.manipulate.outcome import ManipulationOutcome
from editable.callbacks.manipulate.unfinished_folder import MadeImage, UnfinishedFolder, file_stems
from editable.callbacks.run.context import image_data, network_of
from editable.callbacks.run.edit_loop import progress_bars, whole_loader
from editable.callbacks.run.image_identity import files_identity, images_identity
from editable.callbacks.run.image_shares import ImageShares
from editable.callbacks.run.read_ahead import read_finders
from editable.callbacks.run.replaced_examples import ReplacedExamples
from editable.callbacks.run.subcommand import Subcommand
from editable.data import ImageDataModule, ManipulatedImage
from editable.data.modules.image_names import image_names
from editable.errors import Interrupted, UserError
from editable.models import fingerprint
from editable.rewriting.concepts.concept_replacement import ConceptReplacement

__all__ = ["Manipulation"]

WHAT = "making manipulated images"
SECONDS_BETWEEN_WRITES = 10.0
MOST_EXAMPLES = 24
"""Images on the contact sheet."""


class Manipulation(Subcommand):
    """Replaces a concept in all test images that show it, and saves them as an image folder.

    In ``test``: looks for the concept in every test image (every validation image where there are no test images),
    replaces it, and writes ``<out>/<class>/<image>.png`` with ``manifest.json``, which says what was done to each. The
    images are those that the network gets: resized and cropped, but not normalised. Images in which the concept is not
    found are left out. An interrupted run leaves ``<out>.unfinished``, and the same command goes on from there.

    Logs ``manipulate_num_images``, ``manipulate_num_found``, ``manipulate_num_classes`` with at least one such image,
    and ``manipulate_mean_share``, the mean part of these images that is replaced. Leaves ``manipulated.csv`` with
    counts by class, ``looked_at.csv`` with what was found in each image, and a contact sheet.

    Args:
        concept: What is replaced, how it is found, and by what.
        out: The image folder to be made; new or empty.

    Attributes:
        outcome: What came out, with what was found in each image in ``outcome.shares``; none before it has run.

    Raises:
        UserError: When it runs, if ``out`` is there already, an interrupted run made other images, the finder does not
            fit the network or the images, or the concept is found in none of them.
    """

    command = "manipulate"
    summary, write = staticmethod(report.summary), staticmethod(report.write)

    def __init__(self, concept: ConceptReplacement, out: str) -> None:
        self.concept, self.out = concept, Path(out).expanduser()
        self.outcome: ManipulationOutcome | None = None
        self._unfinished: UnfinishedFolder | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make it fail, and let the finder look at the network and the images."""
        data, network = image_data(trainer, WHAT), network_of(pl_module)
        read_finders([self.concept.finder], data)
        identity = {**self._identity(data), "weights": fingerprint(network.state_dict())}
        self._unfinished = UnfinishedFolder(self.out, identity)
        self._unfinished.read()
        with progress_bars(trainer) as progress:
            task = progress.add_task("images in which the concept is looked for", total=None)
            loader = whole_loader(trainer.test_dataloaders)
            self.concept.finder.prepare(
                network, data.normalisation, loader, lambda images: progress.advance(task, images)
            )

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the concept, and write the folder."""
        assert self._unfinished is not None, "on_test_start makes it"
        data = image_data(trainer, WHAT)
        with progress_bars(trainer) as progress, torch.no_grad():
            shares = ImageShares(trainer, data, pl_module.device, progress)
            made = self._make(shares, self._unfinished, trainer)
            examples = self._examples(made, shares)
        found = [one for one in made if one.share]
        if not found:
            self._unfinished.discard()
            raise UserError(
                f"the concept is found in none of the {len(made)} test images: look for it with a lower threshold, or "
                "with masks whose names are those of the test images"
            )
        if trainer.is_global_zero:
            self._unfinished.finish(self._entries(data, shares.labels, found), self.concept.settings)
        if trainer.world_size > 1:
            torch.distributed.barrier()
        self.outcome = ManipulationOutcome(
            out=str(self.out),
            classes=list(data.classes),
            labels=shares.labels,
            names=list(image_names(data.test_dataset)),
            shares=torch.tensor([one.share for one in made], dtype=torch.float64),
            examples=examples,
        )
        pl_module.log_dict({f"manipulate_{name}": value for name, value in self.outcome.values().items()})

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say that an interrupted run is gone on with as it was begun, where it has left something."""
        if isinstance(exception, Interrupted) and self._unfinished is not None and self._unfinished.folder.is_dir():
            exception.advice = f"the same options, from '{self._unfinished.folder}'"

    def _make(self, shares: ImageShares, unfinished: UnfinishedFolder, trainer: Trainer) -> list[MadeImage]:
        """Make the images that an interrupted run has not made; return what became of all."""
        finished = unfinished.read()
        if trainer.world_size > 1:
            torch.distributed.barrier()  # all have read what was there before anyone adds to it
        waiting = sorted(set(range(len(shares.labels))) - {one.position for one in finished})
        own = list(finished) if trainer.is_global_zero else []
        written = time.monotonic()
        try:
            for images, names, positions in shares.batches(waiting, "images with the concept replaced"):
                own += self._replace(images, names, positions.tolist(), unfinished)
                if time.monotonic() - written > SECONDS_BETWEEN_WRITES:
                    unfinished.write(trainer.global_rank, own)
                    written = time.monotonic()
        finally:
            if own:
                unfinished.write(trainer.global_rank, own)
        return sorted(shares.gather(own))

    def _replace(
        self, images: Tensor, names: Sequence[str], positions: Sequence[int], unfinished: UnfinishedFolder
    ) -> Iterator[MadeImage]:
        replaced = self.concept(images, names)
        shares = replaced.masks.mean(dim=(1, 2)).tolist()
        for position, image, found, share in zip(
            positions, replaced.images, replaced.found.tolist(), shares, strict=True
        ):
            if found:
                unfinished.put(position, image)
            yield MadeImage(position, share if found else 0.0)

    def _examples(self, made: Sequence[MadeImage], shares: ImageShares) -> ReplacedExamples | None:
        """Make some of the images once more, for the contact sheet."""
        shown = _spread([one.position for one in made if one.share])
        own = [
            (positions.tolist(), self._example(images, names))
            for images, names, positions in shares.batches(shown, "contact sheet")
        ]
        parts = shares.gather(own)
        if not parts:
            return None
        positions = [position for some, _ in parts for position in some]
        order = sorted(range(len(positions)), key=positions.__getitem__)
        return ReplacedExamples.join([examples for _, examples in parts]).take(order)

    def _example(self, images: Tensor, names: list[str]) -> ReplacedExamples:
        replaced = self.concept(images, names)
        return ReplacedExamples(images.cpu(), replaced.images.cpu(), replaced.masks.cpu(), names)

    def _entries(
        self, data: ImageDataModule, labels: Tensor, found: Sequence[MadeImage]
    ) -> Iterator[tuple[int, ManipulatedImage]]:
        names = image_names(data.test_dataset)
        class_names = [data.classes[label] for label in labels.tolist()]
        stems = file_stems(names, class_names)
        for position, share in found:
            yield (
                position,
                ManipulatedImage(
                    image=torch.empty(data.image_shape[0], 0, 0),
                    class_name=class_names[position],
                    name=stems[position],
                    source=names[position],
                    mask=self.concept.finder.description,
                    texture=self.concept.description,
                    seed=self.concept.seed_of(names[position]),
                    share=share,
                ),
            )

    def _identity(self, data: ImageDataModule) -> dict[str, Any]:
        """Return what the images depend on besides the network."""
        images = data.test_dataset
        names = "\n".join(image_names(images))
        return {
            "settings": self.concept.settings,
            "files": files_identity(self.concept.settings, self.concept.finder.files),
            "images": [len(images), images_identity(images), sha256(names.encode()).hexdigest()],
        }


def _spread(positions: Sequence[int]) -> list[int]:
    """Return some positions, spread evenly over all."""
    count = min(len(positions), MOST_EXAMPLES)
    return [positions[index * len(positions) // count] for index in range(count)]
