"""Many corrections of a trained network, in a stream or together: what holds, what it costs, and what is promised."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from itertools import pairwise
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from rich.progress import Progress as Bars
from torch import Tensor
from torch.utils.data import Dataset, Subset

import editable.callbacks.stream.report as report
from editable.callbacks.drawdown_evaluation import DrawdownEvaluation
from editable.callbacks.run.context import image_data, network_of, optional_path, require_gradients, run_folder
from editable.callbacks.run.edit_loop import progress_bars, whole_loader
from editable.callbacks.run.image_identity import images_identity
from editable.callbacks.run.kept_edit import config_of, write_patch
from editable.callbacks.run.placed import place
from editable.callbacks.run.same_run import editor_identity
from editable.callbacks.run.subcommand import Subcommand
from editable.callbacks.stream.looking import look
from editable.callbacks.stream.outcome import Certificate, StreamOutcome
from editable.callbacks.stream.parts import Halves, Parts, divide
from editable.callbacks.stream.records import records
from editable.callbacks.stream.unfinished import STATE, Progress, UnfinishedStream, read_progress
from editable.data import AugmentedViews, EditStream, NaturalMistakeEdits
from editable.data.images.same_images import ImageGroups
from editable.data.modules.changed_views import CHANGES, ChangedViews
from editable.data.modules.image_names import image_names
from editable.editing import (
    BaseEditor,
    BasePredictions,
    Correction,
    Decision,
    HarmBudget,
    Spending,
    StreamEvaluator,
    StreamState,
    points_of,
    split_for,
)
from editable.errors import UserError, require_at_least, require_seed, require_within
from editable.models import SplitNetwork, fingerprint, write_weights

__all__ = ["CorrectionStream"]

WHAT = "a stream of corrections"


class CorrectionStream(Subcommand):
    """Corrects many mistakes of a trained network, one after the other or together, and judges them on other images.

    The test images are divided: a half from which images are corrected, and a half that judges, of images that are
    neither corrected nor choose anything. After 1, 2, 5, 10, … corrections, and the last, it is looked at whether they
    succeeded and whether all earlier ones still hold, on the images, on further views and on changes that were no part
    of them; what became of the judged images, always beside the unedited network; and of those that the unedited
    network mistakes in the same way as a corrected one, how many are right.

    Logs ``stream_num_edits``, ``stream_error_before``, ``stream_error``, ``stream_broken``, ``stream_mended``,
    ``stream_agreement``, ``stream_success_rate``, ``stream_retention``, ``stream_generality``,
    ``stream_group_generality``, ``stream_seconds_per_edit`` and ``stream_patch_bytes``, all after the last correction;
    ``docs/metrics.md`` defines them. Leaves ``stream.csv`` with a line for each of these moments, ``corrections.csv``
    with one for each correction, figures, ``corrected.safetensors``, the corrected network's weights, and, where any
    correction was kept, ``corrections.safetensors``, a patch (``--patches`` of other subcommands).

    Args:
        evaluation: Whose editor, editable layers and views are used; it does not run itself.
        protocol: ``stream``, each correction on top of the last; or ``together``, at each of the moments all so far at
            once, from the unedited network.
        num_edits: Largest number of corrections; by default all that ``edits`` has.
        edits: Which image gets which label; by default the network's mistakes, with their true labels.
        halves: Correct images of a ``random`` half by seed, or of the ``even`` positions.
        seed: Of the halves and of the order.
        budget: Largest share of images that corrections may break, such as 0.005 for half a point: one after which an
            upper confidence bound is above it is not kept. Half of the images that would judge certify then, and judge
            no more. By default, all are kept.
        level: Confidence of the bounds, of all corrections together.
        counts: What the budget is for: ``broken`` images, right before and wrong now, or, where labels are not to be
            looked at, ``changed`` predictions.
        references: Where images come from that an editor needs besides: ``train``, or the ``rest`` of the half that is
            corrected.
        held_out: Number of corrections that another stream with the same seed reports, its first ones. Those behind
            them are made, and judged by images of the half that is corrected: constants of an editor may be chosen
            by what comes out, since nothing has a part in it that the other stream tells of.
        resume: Folder of a stream that was interrupted, which goes on from its last correction. Network, images, edits,
            editor, views and seed must be the same.
        log: Folder of the log of corrections, to which each that is kept adds a line: by default ``corrections`` beside
            the runs (docs/patch-format.md); ``false`` for none.

    Attributes:
        outcome: What came out; none before it has run.

    Raises:
        UserError: If a number is out of its range; when it runs, if there is nothing to correct, to correct with or to
            judge by.
    """

    command, kept = "stream", STATE
    leaves = (STATE, report.WEIGHTS, report.PATCH)
    in_any_precision = True
    summary, write = staticmethod(report.summary), staticmethod(report.write)
    _unfinished: UnfinishedStream | None = None

    def __init__(
        self,
        evaluation: DrawdownEvaluation,
        protocol: Literal["stream", "together"] = "stream",
        num_edits: int | None = None,
        edits: EditStream | None = None,
        halves: Halves = "random",
        seed: int = 0,
        budget: float | None = None,
        level: float = 0.95,
        counts: Literal["broken", "changed"] = "broken",
        references: Literal["train", "rest"] = "train",
        held_out: int = 0,
        resume: str | None = None,
        log: bool | str = True,
    ) -> None:
        require_at_least(1, num_edits=num_edits)
        require_at_least(0, held_out=held_out)
        require_seed(seed=seed)
        require_within("(0, 1)", level=level)
        self.evaluation, self.protocol, self.num_edits = evaluation, protocol, num_edits
        self.edits = self._bound = edits or NaturalMistakeEdits()
        self.halves, self.seed, self.held_out, self.references = halves, seed, held_out, references
        self.budget = None if budget is None else HarmBudget(budget, level, counts)
        self.resume = optional_path(resume)
        self.outcome: StreamOutcome | None = None
        self.kept_log = log

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make the stream fail, before anything is computed."""
        require_gradients(trainer.test_loop.inference_mode, WHAT)
        if trainer.world_size > 1:
            raise UserError(f"{WHAT} is made by one process, as each depends on the last: set trainer.devices to 1")
        data = image_data(trainer, WHAT)
        self._bound = self.edits.bind(whole_loader(trainer.test_dataloaders).dataset, data.classes)
        self._furnished(pl_module)
        if self.resume is not None and not (self.resume / STATE).is_file():
            read_progress(self.resume, {}, pl_module.device)  # says so

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the corrections on the test set."""
        loader = whole_loader(trainer.test_dataloaders)
        dataset = loader.dataset
        editor, split = self._furnished(pl_module)
        evaluator = StreamEvaluator(
            split, editor, pl_module.device, self.evaluation.memory_budget, self.evaluation.features_folder
        )
        with closing(evaluator), progress_bars(trainer) as progress:

            def take_up(references: Dataset) -> None:
                task = progress.add_task(f"reference images for {type(editor).__name__}", total=None)
                evaluator.editor = place(editor, split, references, loader.batch_size or 1, pl_module.device)
                progress.remove_task(task)

            references: Dataset = dataset
            if self.references == "train":
                references = image_data(trainer, WHAT).unaugmented_training_images()
                take_up(references)  # which may set up a layer of the editor's own, that features are read behind
            groups = ImageGroups(loader)
            base = _measure(evaluator, groups, len(dataset), progress)  # type: ignore[arg-type]
            certify = self.budget is not None
            first = torch.tensor(groups.first)
            parts = divide(base, self._bound, self.num_edits, self.halves, self.seed, certify, self.held_out, first)
            if self.budget is not None:
                self.budget.require_stream(len(parts.certifying), 1)
            if self.references == "rest":
                references = Subset(dataset, parts.rest.tolist())
                before = fingerprint(split.network.state_dict())
                take_up(references)
                if fingerprint(split.network.state_dict()) != before:
                    _measure(evaluator, loader, len(dataset), progress)  # type: ignore[arg-type]
            number = len(parts.edits.indices)
            views = self.evaluation.make_views(trainer, dataset)
            changes = ChangedViews(dataset, self.seed)
            evaluator.expect(number, self.evaluation.generality_views if views else 0, len(CHANGES))
            task = progress.add_task("images to be corrected", total=number)
            for index, label in zip(*(some.tolist() for some in parts.edits), strict=True):
                evaluator.add(_correction(dataset, views, changes, index, label, self.evaluation.edited_views))
                progress.advance(task)
            identity = self._identity(trainer, pl_module, editor, base, parts, dataset, references)
            self._unfinished = UnfinishedStream(run_folder(trainer), identity)
            done = Progress.start(evaluator.start)
            if self.resume is not None:
                done = read_progress(self.resume, identity, pl_module.device)
            task = progress.add_task("corrections", total=number, completed=len(done.success))
            make = self._make_stream if self.protocol == "stream" else self._make_together
            for further in make(evaluator, parts, done):
                done = further
                self._unfinished.keep(done)
                progress.update(task, completed=len(done.success))
            self.outcome = self._outcome(trainer, evaluator, base, parts, done, views)
            record = {"editor": editor.description(), **report.record(self.outcome)}
            write_weights(run_folder(trainer) / report.WEIGHTS, split.network, done.state.params, record)
            if done.kept.any():
                self._write_patch(trainer, editor, split, done)
        pl_module.log_dict({f"stream_{name}": value for name, value in self.outcome.values().items()})
        self._unfinished.remove()
        self._unfinished = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keep what is done of an interrupted stream, and say that it can be gone on with."""
        if self._unfinished is not None:
            self._unfinished.write()
        super().on_exception(trainer, pl_module, exception)

    def _furnished(self, pl_module: LightningModule) -> tuple[BaseEditor, SplitNetwork]:
        """Return the editor, and a copy of the network with the layer that it needs, split."""
        editor: BaseEditor | None = self.evaluation.editor_for(pl_module)
        if editor is None:
            raise UserError(f"{type(pl_module).__name__} brings no editor: name one in evaluation.editor")
        editor = editor.to(pl_module.device).with_strict_success()
        layers = self.evaluation.editable_layers_for(pl_module)
        if layers is None:
            raise UserError(f"{type(pl_module).__name__} brings no editable layers: name them, such as [fc]")
        return editor, split_for(editor, network_of(pl_module), layers)

    def _make_stream(self, evaluator: StreamEvaluator, parts: Parts, done: Progress) -> Iterable[Progress]:
        """Make the corrections that are left, one after the other; one that is not kept leaves all as it was."""
        number = len(parts.edits.indices)
        points = set(points_of(number))
        for edit in range(len(done.success), number):
            state, success, seconds = evaluator.correct(edit, done.state)
            taken_back = state is done.state  # no network was left
            decision = None if taken_back else self._decide(evaluator, parts, state, _spent(done))
            kept = not taken_back and (decision is None or decision.kept)
            bound = float("nan") if decision is None else decision.bound
            done = done.with_correction(state if kept else done.state, success, kept, seconds, bound)
            if edit + 1 in points:
                done = done._replace(points=[*done.points, look(evaluator, parts, done)])
            yield done

    def _make_together(self, evaluator: StreamEvaluator, parts: Parts, done: Progress) -> Iterable[Progress]:
        """Make the first 1, 2, 5, 10, … corrections together, each time from the unedited network.

        What is decided of the last, largest number is decided of all.
        """
        points = [0, *points_of(len(parts.edits.indices))]
        for last, number in pairwise(points):
            if number <= len(done.success):
                continue
            state, success, seconds = evaluator.correct_together(number)
            decision = None
            if state is not None and number == points[-1]:
                decision = self._decide(evaluator, parts, state)
            kept = state is not None and (decision is None or decision.kept)
            bound = float("nan") if decision is None else decision.bound
            state = state if state is not None and kept else evaluator.start
            for _ in range(number - last):
                done = done.with_correction(state, success, kept, seconds / number, bound)
            done = done._replace(
                seconds=torch.full_like(done.seconds, seconds / number),
                success=torch.full_like(done.success, success),
                kept=torch.full_like(done.kept, kept),
            )
            done = done._replace(points=[*done.points, look(evaluator, parts, done)])
            yield done

    def _decide(
        self, evaluator: StreamEvaluator, parts: Parts, state: StreamState, spent: Spending | None = None
    ) -> Decision | None:
        """Decide whether corrections are kept, in a stream by what it has spent; without a budget not at all."""
        if self.budget is None:
            return None
        count, number = self._count(evaluator, parts, state), len(parts.certifying)
        return self.budget.decide(count, number) if spent is None else self.budget.decide_next(count, number, spent)

    def _count(self, evaluator: StreamEvaluator, parts: Parts, state: StreamState) -> int:
        """Count the certifying images that are broken or changed."""
        assert self.budget is not None, "what is counted is the budget's"
        cost = evaluator.cost(state.params, parts.certifying)
        return cost.num_broken if self.budget.counts == "broken" else cost.num_changed

    def _certificate(self, evaluator: StreamEvaluator, parts: Parts, done: Progress) -> Certificate | None:
        """Return what is promised of the corrections that were kept."""
        if self.budget is None:
            return None
        bounds = done.bounds[done.kept]
        return Certificate(
            self.budget.counts,
            self.budget.budget,
            self.budget.level,
            bounds[-1].item() if len(bounds) else 0.0,
            self._count(evaluator, parts, done.state),
            len(parts.certifying),
            int((~done.kept).sum()),
        )

    def _write_patch(self, trainer: Trainer, editor: BaseEditor, split: SplitNetwork, done: Progress) -> None:
        """Leave what was changed as a patch, and tell the log of it."""
        assert self.outcome is not None, "the stream is at its end"
        names = image_names(whole_loader(trainer.test_dataloaders).dataset)
        made_by = {"editor": editor.description(), "parameters": list(split.params), "protocol": self.protocol}
        made = records(self.outcome, names, done, made_by, config_of(trainer))
        path = run_folder(trainer) / report.PATCH
        write_patch(trainer, path, split.network, done.state.params, made, self.command, self.kept_log)

    def _identity(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        editor: BaseEditor,
        base: BasePredictions,
        parts: Parts,
        dataset: Dataset,
        references: Dataset,
    ) -> dict[str, Any]:
        """Return what the outcome depends on, as JSON holds it."""
        return {
            "protocol": self.protocol,
            "seed": self.seed,  # of the changes by which corrections are judged, too
            "weights": fingerprint(network_of(pl_module).state_dict()),
            "labels": fingerprint({"labels": base.labels}),
            "images": images_identity(dataset),
            "references": images_identity(references),
            "edits": fingerprint(parts.edits._asdict()),
            "judged": fingerprint({"judged": parts.judged}),
            "budget": self.budget and asdict(self.budget),
            **editor_identity(editor),
            "editable_layers": list(self.evaluation.editable_layers_for(pl_module) or ()),
            **self.evaluation.view_settings(trainer),
        }

    def _outcome(
        self,
        trainer: Trainer,
        evaluator: StreamEvaluator,
        base: BasePredictions,
        parts: Parts,
        done: Progress,
        views: AugmentedViews | None,
    ) -> StreamOutcome:
        held, before = evaluator.held(done.state.params), evaluator.held(evaluator.start.params)
        cost = evaluator.cost(done.state.params, parts.judged)
        return StreamOutcome(
            self.protocol,
            type(evaluator.editor).__name__,
            parts.edits.indices,
            base.predictions[parts.edits.indices],
            parts.edits.labels,
            done.kept,
            done.success,
            done.seconds,
            held.images,
            held.views.double().mean(dim=1),
            done.points,
            cost.error_before,
            len(parts.judged),
            before.views.double().mean().item(),
            before.changes.double().mean(dim=0).tolist(),
            self.evaluation.generality_views,
            self.evaluation.edited_views,
            views.augmentation if views else "none",
            self.seed,
            self._certificate(evaluator, parts, done),
            list(image_data(trainer, WHAT).classes),
            len(parts.copies),
        )


def _measure(
    evaluator: StreamEvaluator, batches: Iterable[tuple[Tensor, Tensor]], number: int, progress: Bars
) -> BasePredictions:
    """Run the unedited network over all test images."""
    task = progress.add_task("images through the unedited network", total=number)
    return evaluator.measure_base(batches, number, lambda done: progress.advance(task, done))


def _spent(done: Progress) -> Spending:
    return Spending(len(done.kept), int((~done.kept).sum()))


def _correction(
    dataset: Dataset, views: AugmentedViews | None, changes: ChangedViews, index: int, label: int, num_edited: int
) -> Correction:
    """Return a correction of an image with its views, of which the last ones are corrected with it."""
    image = torch.as_tensor(dataset[index][0])[None]
    seen: Tensor = image[:0] if views is None else views[index]
    judged, edited = seen.tensor_split([len(seen) - num_edited])
    return Correction(torch.cat([image, edited]), judged, changes[index], label)
