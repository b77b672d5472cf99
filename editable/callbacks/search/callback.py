"""Search for an editor's learning rate: the same held-out edits at each rate, of which the best is chosen."""

import json
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import Dataset, Subset

import editable.callbacks.search.report as report
from editable.callbacks.drawdown_evaluation import DrawdownEvaluation
from editable.callbacks.run.context import datamodule_of, network_of, optional_path, run_folder
from editable.callbacks.run.edit_loop import all_ranks, gather_outcomes, progress_bars, validates_alone, whole_loader
from editable.callbacks.run.image_identity import images_identity
from editable.callbacks.run.placed import training_images
from editable.callbacks.run.same_run import editor_identity
from editable.callbacks.run.subcommand import Subcommand
from editable.callbacks.search.outcome import SearchOutcome
from editable.callbacks.search.reported import ReportedEdits
from editable.callbacks.search.unfinished import STATE, UnfinishedSearch
from editable.data import ImageDataModule
from editable.data.edits.edit_streams import Edits, EditStream, HeldOutEdits, RandomLabelEdits
from editable.editing import (
    BasePredictions,
    EditEvaluator,
    EditOutcomes,
    RateOutcome,
    SamplingSettings,
    learning_rate_grid,
    merge_estimates,
    needs_place,
)
from editable.errors import UserError, require_at_least, require_seed, require_within
from editable.models import fingerprint

__all__ = ["LearningRateSearch"]


class LearningRateSearch(Subcommand):
    """Finds the learning rate of an editor: the one of least drawdown among those with enough successes.

    The same held-out edits are made at each learning rate of a logarithmic grid and scored on the same images. An edit
    asks for a uniformly random label on a random input that no reported edit uses: on the test images, none of the
    first 1000 of the published permutation, nor more of them where ``evaluation.num_edits`` is larger. Validation
    images are other images than those reported on, so there any may be drawn, unless the data set has no test images
    and is tested on its validation images, or some of them. A test set too small for both kinds of edits is refused:
    take ``split=val``. An edit succeeds where the label asked for is predicted, strictly above all others; its drawdown
    is that on images other than its own input.

    Logs, of the chosen rate, ``search_learning_rate``, ``search_drawdown``, ``search_drawdown_half_width``,
    ``search_success_rate`` and ``search_num_steps``, and beside them ``search_num_edits``, ``search_num_rates``,
    ``search_num_scoring_images`` and ``search_scoring_error`` (the unedited network's error on those). Leaves
    ``search.csv`` with a line for each rate, ``search.png``, and ``editor.yaml``, a configuration file with the editor
    at the chosen rate. Each finished rate is kept in ``search.json`` at once. Edits are shared out over ranks.

    Args:
        evaluation: Whose editor, editable layers and scoring are searched with; it does not run itself.
        lowest: Lowest learning rate.
        highest: Highest learning rate.
        per_decade: Number of learning rates in each factor of ten; both ends are among them.
        num_edits: Number of held-out edits at each learning rate.
        min_success: Least success rate, as a fraction, of a learning rate that may be chosen.
        half_width: Half-width of the 95 % interval of drawdown aimed at, as a fraction: 0.002 is a fifth of a point. Of
            no effect where ``evaluation.sampling`` is given; null looks at all scoring images.
        split: Whether edited inputs and scoring images are ``test`` or ``val`` images, the data module's validation
            images.
        seed: Seed of the held-out edits.
        resume: Folder of a search that was interrupted, or that had another grid: its finished learning rates are taken
            over. Network, edits, editor, edited views and scoring must be the same.

    Attributes:
        rates: The learning rates that are searched, in ascending order.
        outcome: What came out: ``outcome.rates`` at each learning rate, ``outcome.chosen`` at the best; none before the
            search has run.

    Raises:
        UserError: If a number is out of its range, or the folder holds no search; when it runs, if the editor has no
            learning rate that can be set, there are too few inputs, or the search in the folder was another one.
    """

    command, kept = "search", STATE
    leaves = (STATE, report.CONFIGURATION)
    in_any_precision = True
    summary, write = staticmethod(report.summary), staticmethod(report.write)

    def __init__(
        self,
        evaluation: DrawdownEvaluation,
        lowest: float = 1e-6,
        highest: float = 1e-2,
        per_decade: int = 3,
        num_edits: int = 100,
        min_success: float = 0.95,
        half_width: float | None = 0.002,
        split: Literal["test", "val"] = "test",
        seed: int = 0,
        resume: str | None = None,
    ) -> None:
        self.rates = learning_rate_grid(lowest, highest, per_decade)
        require_at_least(1, num_edits=num_edits)
        require_within("[0, 1]", min_success=min_success)
        require_within("(0, 1)", half_width=half_width)
        require_seed(seed=seed)
        self.evaluation, self.num_edits, self.min_success = evaluation, num_edits, min_success
        self.split, self.seed = split, seed
        own_sampling = None if half_width is None else SamplingSettings(half_width)
        self.sampling = evaluation.sampling or own_sampling
        self.outcome: SearchOutcome | None = None
        self.resume = optional_path(resume)
        if self.resume is not None:
            UnfinishedSearch(self.resume)  # says at once where there is none

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make the search fail, before anything is computed."""
        if self.split == "test":
            self._check(pl_module, trainer.test_loop.inference_mode)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make the search fail, before anything is computed."""
        if self.split == "val" and validates_alone(trainer):
            self._check(pl_module, trainer.validate_loop.inference_mode)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Search with edits of test images."""
        if self.split == "test":
            self._search(trainer, pl_module, trainer.test_dataloaders)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Search with edits of validation images, unless the validation is part of a fit."""
        if self.split == "val" and validates_alone(trainer):
            self._search(trainer, pl_module, trainer.val_dataloaders)

    @property
    def loop(self) -> Literal["test", "validate"]:
        """The loop over the images that the edits are drawn from."""
        return "test" if self.split == "test" else "validate"

    def failure(self) -> str | None:
        """Return what to do where no rate had enough successes."""
        return None if self.outcome is None or self.outcome.chosen else self.outcome.advice

    def _check(self, pl_module: LightningModule, inference_mode: bool) -> None:
        self.evaluation.check(pl_module, inference_mode)
        self.evaluation.editor_for(pl_module).with_learning_rate(self.rates[0]).configuration()

    def _search(self, trainer: Trainer, pl_module: LightningModule, dataloaders: Any) -> None:
        loader = whole_loader(dataloaders)
        num_images = len(loader.dataset)  # type: ignore[arg-type]
        evaluator = self.evaluation.make_evaluator(pl_module, loader, self.sampling)
        editor = evaluator.editor
        with closing(evaluator), progress_bars(trainer) as progress:
            task = progress.add_task(f"{self.split} images through the unedited network", total=num_images)
            base = evaluator.measure_base(partial(progress.advance, task))
            edits = self._draw_edits(base, trainer, loader.dataset)
            settings = self._settings(trainer, pl_module, evaluator, base, edits, loader.dataset)
            finished = {} if self.resume is None else UnfinishedSearch(self.resume).finished(settings)
            share = _own(edits, trainer)
            views = self.evaluation.make_views(trainer, loader.dataset) if self.evaluation.edited_views else None
            task = progress.add_task("learning rates", total=len(self.rates) * len(share.indices))
            for rate in self.rates:
                progress.update(task, description=f"learning rate {rate:g}")
                if rate in finished:
                    progress.advance(task, len(share.indices))
                    continue
                evaluator.editor = editor.with_learning_rate(rate).to(pl_module.device).with_strict_success()
                outcomes = evaluator.score(
                    loader.dataset,
                    *share,
                    partial(progress.advance, task),
                    self.num_edits,
                    trainer.global_rank,
                    views,
                    self.evaluation.edited_views,
                    leave_out_edited=True,
                )
                finished[rate] = _summarize(rate, outcomes, evaluator, trainer.world_size)
                folder = run_folder(trainer)  # on every rank
                if trainer.is_global_zero:
                    UnfinishedSearch.keep(folder, settings, finished)
        self.outcome = self._outcome([finished[rate] for rate in self.rates], pl_module, evaluator)
        if self.outcome.chosen is not None and self.outcome.advice:
            rank_zero_warn(self.outcome.advice)
        pl_module.log_dict({f"search_{name}": value for name, value in self.outcome.values().items()}, sync_dist=True)

    def _outcome(self, rates: list[RateOutcome], pl_module: LightningModule, evaluator: EditEvaluator) -> SearchOutcome:
        outcome = SearchOutcome(
            rates,
            self.num_edits,
            self.seed,
            self.split,
            self.min_success,
            evaluator.num_images,
            evaluator.errors_before / evaluator.num_images,
        )
        if outcome.chosen is None:
            return outcome
        editor = self.evaluation.editor_for(pl_module).with_learning_rate(outcome.chosen.learning_rate)
        layers = list(self.evaluation.editable_layers_for(pl_module))
        configuration = {"evaluation": {"editor": editor.configuration(), "editable_layers": layers}}
        return replace(outcome, editor=configuration)

    def _draw_edits(self, base: BasePredictions, trainer: Trainer, dataset: Dataset) -> Edits:
        """Draw the held-out edits; see the class."""
        stream: EditStream = RandomLabelEdits(self.seed)
        data = datamodule_of(trainer)
        if self.split == "test" or getattr(data, "tests_on_validation", False):
            num_reported = max(RandomLabelEdits.published_num_edits, self.evaluation.num_edits)
            classes = getattr(data, "classes", None)
            if self.split == "val" and isinstance(data, ImageDataModule):
                positions = data.tested_validation_images  # fewer than all where the data have a test_limit
                reported = self.evaluation.edits.bind(Subset(dataset, positions.tolist()), classes)
                stream = HeldOutEdits(ReportedEdits(reported, positions), num_reported, self.seed)
            else:
                stream = HeldOutEdits(self.evaluation.edits, num_reported, self.seed).bind(dataset, classes)
        try:
            return stream(base.labels, base.predictions, base.num_classes, self.num_edits)
        except UserError as error:
            other = "take the validation images (search.split=val), or " if self.split == "test" else ""
            raise UserError(f"{error} Here: {other}lower search.num_edits.") from error

    def _settings(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        evaluator: EditEvaluator,
        base: BasePredictions,
        edits: Edits,
        dataset: Dataset,
    ) -> dict[str, Any]:
        """Return what the outcome at a learning rate depends on, as JSON holds it."""
        network = network_of(pl_module)
        images = torch.stack([torch.as_tensor(dataset[index][0]) for index in edits.indices.tolist()])
        settings = {
            "split": self.split,
            "num_edits": self.num_edits,
            "seed": self.seed,
            "weights": fingerprint(network.state_dict()),
            "labels": fingerprint({"labels": base.labels}),
            "edits": fingerprint({"indices": edits.indices, "labels": edits.labels, "images": images}),
            "images": images_identity(dataset),
            **editor_identity(self.evaluation.editor_for(pl_module).with_learning_rate(1.0)),
            "editable_layers": self.evaluation.editable_layers_for(pl_module),
            "image_stride": evaluator.image_stride,
            "sampling": self.sampling and asdict(self.sampling),
            "scoring": asdict(evaluator.scoring),
            "processes": trainer.world_size,
            "counted": "strict success, harm on images that are not edited",
        }
        if needs_place(evaluator.editor):
            settings["references"] = images_identity(training_images(trainer))
        if self.evaluation.edited_views:
            settings["views"] = self.evaluation.view_settings(trainer)
        return json.loads(json.dumps(settings))


def _own(edits: Edits, trainer: Trainer) -> Edits:
    """Return the edits that this rank makes; they are dealt out one by one."""
    return Edits(*(field[trainer.global_rank :: trainer.world_size] for field in edits))


def _summarize(rate: float, outcomes: EditOutcomes, evaluator: EditEvaluator, world_size: int) -> RateOutcome:
    """Return the means over the edits of all ranks; a collective operation."""
    outcomes = gather_outcomes(outcomes, world_size)
    means = rate, outcomes.success.double().mean().item(), outcomes.num_steps.double().mean().item()
    if evaluator.sampling is None:
        changes = (outcomes.errors_after - evaluator.errors_before).double()
        return RateOutcome(*means, changes.mean().item() / evaluator.num_images)
    estimate = merge_estimates(share for share in all_ranks(evaluator.estimate, world_size) if share)
    return RateOutcome(*means, estimate.drawdown, estimate.half_width, estimate.forward_passes)
