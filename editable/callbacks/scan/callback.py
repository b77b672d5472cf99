"""Look for what a classifier wrongly goes by: replace a concept wherever it is, and see which classes break."""

import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from rich.progress import Progress
from torch import Tensor, nn

import editable.callbacks.scan.report as report
from editable.callbacks.run.context import image_data, network_of, optional_path, run_folder
from editable.callbacks.run.edit_loop import progress_bars, whole_loader
from editable.callbacks.run.image_identity import files_identity, images_identity
from editable.callbacks.run.image_shares import ImageShares
from editable.callbacks.run.read_ahead import read_finders
from editable.callbacks.run.subcommand import Subcommand
from editable.callbacks.scan.classes import RankBy, network_changes, ranking
from editable.callbacks.scan.outcome import ScanOutcome
from editable.callbacks.scan.records import NAME, ScanRecords, look_at, read_records, write_records
from editable.data import ImageDataModule
from editable.data.classes import ClassName, class_numbers, is_none
from editable.errors import UserError, require_at_least, require_choice
from editable.models import fingerprint, load_weights, logits_of
from editable.rewriting.concepts.concept_replacement import ConceptReplacement

__all__ = ["SpuriousScan"]

WHAT = "a scan"
SECONDS_BETWEEN_WRITES = 10


class SpuriousScan(Subcommand):
    """Ranks classes by the harm that the replacement of a concept does to them, and tells what an edit has changed.

    In ``scan``: the concept is looked for in every test image and replaced wherever it is found. A class whose images
    are then no longer recognised hangs on the concept: where the concept does not make the class, that is a spurious
    correlation (Elango 2021, section 2.3). A class that the network gives other classes' images with the concept to,
    and no longer when it is replaced, is what the concept stands for. Nothing is trained, and no network changes.

    Logs, with ``scan_`` before each: ``num_images``, ``num_found``, ``num_ranked_classes``; ``error``,
    ``top_probability`` and ``true_probability`` on the images where the concept was found, each with ``_before`` and
    ``_after``; the same of the target class, and what it takes of others, as ``target_…``; ``effect``. Those of the
    edited network begin with ``edited_``, and ``effect_removed`` compares the two. ``docs/metrics.md`` defines them.
    Leaves ``scan.csv`` with a line for each class, ``scan.png``, and ``scan.safetensors`` with what became of each
    image, kept every ten seconds. Images are shared out over ranks.

    Args:
        concept: Finds the concept in images, and puts something else in its place.
        edited: Weights of a rewritten network of the same architecture, a checkpoint or ``.safetensors`` file, to be
            put beside; null scans the network alone.
        target: The class, by name or number, that the figures ``target_…`` and ``effect`` are of; null takes the first
            of the ranking.
        rank_by: Rank by the rise in ``error``, by the fall in ``top_probability``, or by the rise of what is ``taken``,
            the part of the other classes' images that is given to a class: it finds what a replacement stands for.
        min_found: Least number of images with the concept in a class; classes with fewer are not ranked, save
            by what is taken.
        resume: Folder of a scan that was interrupted: its finished images are taken over. Networks, concept, images,
            precision and batch size must be the same.

    Attributes:
        outcome: Once it has run: the changes of each class in ``outcome.network`` and ``outcome.edited``, the ranking
            in ``outcome.order``.

    Raises:
        UserError: If a number is out of its range; when it runs, if there is no such class, the edited network is
            missing or another one, the scan in the folder was another one, or the concept is found nowhere.
    """

    command, kept = "scan", NAME
    leaves = (NAME,)
    summary, write = staticmethod(report.summary), staticmethod(report.write)

    def __init__(
        self,
        concept: ConceptReplacement,
        edited: str | None = None,
        target: ClassName | None = None,
        rank_by: RankBy = "error",
        min_found: int = 10,
        resume: str | None = None,
    ) -> None:
        require_at_least(1, min_found=min_found)
        require_choice(RankBy, **{"scan.rank_by": rank_by})
        self.concept, self.edited, self.target = concept, edited, target
        self.rank_by, self.min_found, self.resume = rank_by, min_found, optional_path(resume)
        self.outcome: ScanOutcome | None = None
        self._networks: list[nn.Module] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make it fail, before anything is computed."""
        data = image_data(trainer, WHAT)
        self._target_label(data)
        read_finders([self.concept.finder], data)
        network = network_of(pl_module)
        self._networks = [network]
        if self.edited is not None:
            edited = deepcopy(network)
            load_weights(edited, self.edited)
            self._networks.append(edited.eval())
        if self.resume is not None:
            read_records(self.resume, self._identity(trainer))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the concept, and count what that does to each class."""
        data, folder = image_data(trainer, WHAT), run_folder(trainer)
        with progress_bars(trainer) as progress, torch.no_grad():
            shares = ImageShares(trainer, data, pl_module.device, progress)
            self._prepare(trainer, pl_module, progress)
            records = self._scan(shares, folder, trainer)
        if not records.found.any():
            raise UserError(
                f"the concept is found in none of the {len(records.found)} test images: look for it with a lower "
                "threshold, or with masks whose names are those of the test images"
            )
        self.outcome = self._outcome(records, shares.labels, data, folder)
        pl_module.log_dict({f"scan_{name}": value for name, value in self.outcome.values().items()})

    def _target_label(self, data: ImageDataModule) -> int | None:
        """Return the class that was named as the one that the concept is held against; none where none was."""
        if self.target is None or is_none(self.target, data.classes):
            return None
        return class_numbers(self.target, data.classes, "scan.target")[0]

    def _outcome(self, records: ScanRecords, labels: Tensor, data: ImageDataModule, folder: Path) -> ScanOutcome:
        """Return what the records of all images say of each class; raise where no class can be ranked."""
        network, *others = (
            network_changes(records, labels, data.num_classes, position) for position in range(len(self._networks))
        )
        order = ranking(network.by_class, self.rank_by, self.min_found)
        if not order:
            most = max(network.by_class, key=lambda some: some.num_found)
            raise UserError(
                f"scan.min_found is {self.min_found}, but the class with most images of the concept, "
                f"'{data.classes[most.label]}', has {most.num_found}: lower it, and go on with scan.resume={folder}"
            )
        target = self._target_label(data)
        return ScanOutcome(
            classes=list(data.classes),
            network=network,
            edited=others[0] if others else None,
            target=order[0] if target is None else target,
            rank_by=self.rank_by,
            min_found=self.min_found,
        )

    def _prepare(self, trainer: Trainer, pl_module: LightningModule, progress: Progress) -> None:
        """Let the finder look at the network and the test images, where it has to."""
        data, loader = image_data(trainer, WHAT), whole_loader(trainer.test_dataloaders)
        # Those that look at them go through them twice: for what is usual, and for where to draw the line.
        task = progress.add_task("images for the finder", total=2 * len(data.test_dataset))
        self.concept.finder.prepare(
            network_of(pl_module), data.normalisation, loader, lambda images: progress.advance(task, images)
        )
        progress.remove_task(task)

    def _scan(self, shares: ImageShares, folder: Path, trainer: Trainer) -> ScanRecords:
        """Return the records of all images; those of this process are kept on disk as they come."""
        identity = self._identity(trainer)
        finished = [] if self.resume is None else [read_records(self.resume, identity)]
        done = [position for records in finished for position in records.positions.tolist()]
        every = range(len(shares.labels))
        own = finished if trainer.global_rank == 0 else []
        written = time.monotonic()
        try:
            for images, names, positions in shares.batches(every, "images where the concept is replaced", done):
                own.append(self._look(images, names, positions, shares.labels, trainer))
                if time.monotonic() - written > SECONDS_BETWEEN_WRITES:
                    write_records(folder, trainer.global_rank, identity, ScanRecords.join(own))
                    written = time.monotonic()
        finally:
            if own:
                write_records(folder, trainer.global_rank, identity, ScanRecords.join(own))
        return ScanRecords.join(shares.gather(own))

    def _look(
        self, images: Tensor, names: list[str], positions: Tensor, labels: Tensor, trainer: Trainer
    ) -> ScanRecords:
        """Run images with the concept through the networks, as they are and with the concept replaced."""
        replaced = self.concept(images, names)
        found, data = replaced.found.cpu(), image_data(trainer, WHAT)
        if not found.any():
            nothing = torch.zeros(0, len(self._networks), 2, data.num_classes)
            return look_at(nothing, labels[positions], positions, found)
        pairs = [data.normalisation(some[replaced.found]) for some in (images, replaced.images)]
        with trainer.precision_plugin.forward_context():
            logits = torch.stack(
                [torch.stack([logits_of(network(some)) for some in pairs], dim=1) for network in self._networks], dim=1
            )
        return look_at(logits, labels[positions], positions, found)

    def _identity(self, trainer: Trainer) -> dict[str, Any]:
        """Return what the records depend on, as JSON holds it."""
        data = image_data(trainer, WHAT)
        weights = [fingerprint(network.state_dict()) for network in self._networks]
        return {
            "weights": weights[0],
            "edited": weights[1] if len(weights) > 1 else None,
            "concept": dict(self.concept.settings),
            "files": files_identity(self.concept.settings, self.concept.finder.files),
            "num_images": len(data.test_dataset),
            "images": images_identity(data.test_dataset),
            "precision": str(trainer.precision),
            "batch_size": data.batch_size,  # rounding differs with it
        }
