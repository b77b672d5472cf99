"""Drawdown evaluation: make many edits of a trained network and count what each costs on other inputs."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader, Dataset

import editable.callbacks.drawdown_evaluation.report as report
from editable.callbacks.drawdown_evaluation.ahead import check_edits, check_network
from editable.callbacks.drawdown_evaluation.drawn import drawn_images
from editable.callbacks.drawdown_evaluation.measures import measure_edits
from editable.callbacks.drawdown_evaluation.outcome import EvaluatedEdits
from editable.callbacks.drawdown_evaluation.unfinished import (
    UnfinishedEdits,
    edits_identity,
    is_kept,
    read_progress,
    require_kept,
)
from editable.callbacks.run.context import (
    datamodule_of,
    network_of,
    optional_path,
    require_gradients,
    require_tensors,
    run_folder,
    run_folder_here,
)
from editable.callbacks.run.edit_loop import (
    all_ranks,
    gather_outcomes,
    loader_of_turns,
    progress_bars,
    share_of_edits,
    validates_alone,
    whole_loader,
)
from editable.callbacks.run.image_identity import images_identity
from editable.callbacks.run.outcome_file import write_outcome
from editable.callbacks.run.placed import place, training_images
from editable.data import AugmentedViews, EditStream, ImageDataModule, RandomLabelEdits
from editable.data.edits.edit_streams import Edits, NothingToEdit
from editable.data.turns import Turns
from editable.editing import (
    BaseEditor,
    BasePredictions,
    EditEvaluator,
    EditProgress,
    SamplingSettings,
    merge_estimates,
    needs_place,
    split_for,
)
from editable.errors import Interrupted, UserError, require_at_least, require_positive, require_seed, require_within
from editable.models import ScoringSettings
from editable.models.sharded import is_sharded

__all__ = ["DrawdownEvaluation"]


class DrawdownEvaluation(Callback):
    """Evaluates edits by the published protocol, in ``test`` and, with fewer edits, in validation.

    Each edit starts from the trained network and is judged by how often and how fast it succeeds, by what it changes on
    the scoring images, on those that are sensitive among them, and by whether it holds on augmented views of the edited
    input. Logs ``success_rate``, ``num_steps``, ``drawdown``, ``drawdown_absolute``, ``agreement``,
    ``sensitive_agreement``, ``generality``, ``generality_before`` and ``generality_of_successes``, and numbers of
    edits and images; ``docs/metrics.md`` defines them all. In validation ``val_`` stands before the name; after it, for
    edits of another kind than random labels, that kind, such as ``mistake_``. A mean over nothing, such as the
    agreement on no sensitive image, is left out.

    With ``sampling``, drawdown and agreement are unbiased estimates, ``drawdown_half_width`` is the half-width of the
    95 % confidence interval of the former, ``num_sampled_images`` the number of scoring images looked at over all
    edits, and ``drawdown_absolute`` is left out, as the noise of an estimate would enlarge it. Edits are shared out
    over ranks; where ranks share the parameters out (FSDP2, tensor parallelism), each makes all edits, and they are
    edits of the last layer, the only one that is gathered.

    Args:
        num_edits: Number of edits in ``test``; 0 evaluates none.
        val_num_edits: Number of edits in validation; 0 evaluates none. In a fit, a validation that has nothing to edit,
            as mistakes of a network that makes none, goes without these figures.
        val_every_n_epochs: Evaluate edits in every n-th epoch of a training run.
        edits: Which input gets which label: ``RandomLabelEdits`` (published, the default), ``NaturalMistakeEdits`` or
            ``TableEdits``, a table of one's own.
        editor: Makes the edits; by default the task's own, with the constants that it has learnt.
        editable_layers: Which parameters an edit may change; by default the task's own.
        image_stride: Score on every n-th image of the data set; the published ImageNet protocol takes 10.
        edits_at_once: Number of edits computed together; 1 repeats a loop over single edits bit for bit.
        memory_budget: In GiB, half of it for features, else kept on disk; by default half a GPU's free memory, or 4.
        features_folder: Where features that do not fit into memory are kept; by default the system's temporary folder.
        scoring: How edited networks are run on the scoring images; by default what is fastest in full precision.
        sampling: Look at a random part of the scoring images for each edit: give its ``half_width``, or a number of
            ``forward_passes``. By default all are looked at.
        sensitive_margin: A scoring image is sensitive if the unedited network gets it right and its largest probability
            is less than this above its second largest; 0 makes none sensitive.
        generality_views: Number of augmented views of each edited input; 0 makes none.
        generality_augmentation: What makes the views; by default what the data module augments training images with
            or, where that is none, ``crop_flip``.
        generality_seed: Seed of the views; a view depends on it, its number and the input's position alone.
        edited_views: Number of further augmented views of each input that an edit shall give the same label, so that
            it holds for more than the input itself; 0 edits the input alone, as published.
        resume: Folder of a test that was interrupted, whose finished edits are taken over. Network, edits, editor,
            scoring, views and number of processes must be the same.

    Attributes:
        results: What came out, by stage: ``test``, or ``val`` of the last validation. A report keeps them in the run's
            folder, as ``evaluation_outcome.pt`` and ``val_evaluation_outcome.pt``.

    Raises:
        UserError: If a number is out of its range; when evaluating, if there is nothing to edit with.
    """

    def __init__(
        self,
        num_edits: int = 1000,
        val_num_edits: int = 0,
        val_every_n_epochs: int = 1,
        edits: EditStream | None = None,
        editor: BaseEditor | None = None,
        editable_layers: Sequence[str] | None = None,
        image_stride: int = 1,
        edits_at_once: int = 8,
        memory_budget: float | None = None,
        features_folder: str | None = None,
        scoring: ScoringSettings | None = None,
        sampling: SamplingSettings | None = None,
        sensitive_margin: float = 0.05,
        generality_views: int = 8,
        generality_augmentation: Literal["shift", "crop_flip", "shift_flip", "resized_crop_flip"] | None = None,
        generality_seed: int = 0,
        edited_views: int = 0,
        resume: str | None = None,
    ) -> None:
        require_at_least(0, num_edits=num_edits, val_num_edits=val_num_edits)
        require_at_least(0, generality_views=generality_views, edited_views=edited_views)
        require_seed(generality_seed=generality_seed)
        require_at_least(
            1, val_every_n_epochs=val_every_n_epochs, image_stride=image_stride, edits_at_once=edits_at_once
        )
        require_positive(memory_budget=memory_budget)
        require_within("[0, 1]", sensitive_margin=sensitive_margin)
        self.num_edits, self.val_num_edits, self.val_every_n_epochs = num_edits, val_num_edits, val_every_n_epochs
        self.edits = edits or RandomLabelEdits()
        self.editor = editor
        self.editable_layers = editable_layers
        self.image_stride, self.edits_at_once, self.memory_budget = image_stride, edits_at_once, memory_budget
        self.features_folder = optional_path(features_folder)
        if self.features_folder is not None and not self.features_folder.is_dir():
            raise UserError(f"features_folder {features_folder!r} is not a folder")
        self.scoring, self.sampling, self.sensitive_margin = scoring, sampling, sensitive_margin
        self.generality_views, self.generality_seed = generality_views, generality_seed
        self.generality_augmentation, self.edited_views = generality_augmentation, edited_views
        self.resume = optional_path(resume)
        self._unfinished: UnfinishedEdits | None = None
        self._said_nothing_to_edit = False
        self.results: dict[str, EvaluatedEdits] = {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make the evaluation fail, before anything is computed."""
        if self.num_edits:
            self.check(pl_module, trainer.test_loop.inference_mode)
            check_edits(trainer, self.edits, trainer.test_dataloaders, "evaluation.num_edits", self.num_edits)
            if self.resume is not None:
                require_kept(self.resume)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make the first validation fail, hours before it where there is no sanity check."""
        if trainer.val_dataloaders is not None:
            self.on_validation_start(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make the evaluation fail, before anything is computed."""
        if self.val_num_edits:
            self.check(pl_module, validates_alone(trainer) and trainer.validate_loop.inference_mode)
            check_edits(trainer, self.edits, trainer.val_dataloaders, "evaluation.val_num_edits", self.val_num_edits)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate edits on the test set."""
        if self.num_edits:
            self._evaluate(trainer, pl_module, "test", trainer.test_dataloaders, self.num_edits)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate a few edits on the validation set."""
        due = validates_alone(trainer) or (trainer.current_epoch + 1) % self.val_every_n_epochs == 0
        if self.val_num_edits and due and not trainer.sanity_checking:
            self._evaluate(trainer, pl_module, "val", trainer.val_dataloaders, self.val_num_edits)

    def report(self, trainer: Trainer, folder: Path) -> list[str]:
        """Keep each outcome, and write its table and figures; return the report's sections in Markdown."""
        sections = []
        for stage, result in self.results.items():
            start = "" if stage == "test" else f"{stage}_"
            write_outcome(folder / f"{start}evaluation_outcome.pt", result)
            sections += report.write(result, folder)
        return sections

    def check(self, pl_module: LightningModule, inference_mode: bool) -> None:
        """Raise a :class:`UserError` where edits cannot be made."""
        require_tensors(pl_module.trainer, "an evaluation of edits")
        require_gradients(inference_mode, "an edit needs gradients")
        editor, layers = self.editor_for(pl_module), self.editable_layers_for(pl_module)
        check_network(pl_module, editor, layers, resumed=self.resume is not None)

    def editor_for(self, pl_module: LightningModule) -> Any:
        """Return the editor that was given or else the task's own."""
        return self.editor if self.editor is not None else getattr(pl_module, "editor", None)

    def editable_layers_for(self, pl_module: LightningModule) -> Any:
        """Return the layers that the editor brings, those that were given, or else the task's own."""
        own = getattr(self.editor_for(pl_module), "own_layers", None)
        if own is not None:
            return list(own)
        return self.editable_layers if self.editable_layers is not None else getattr(pl_module, "editable_layers", None)

    def make_evaluator(
        self, pl_module: LightningModule, loader: DataLoader, sampling: SamplingSettings | None
    ) -> EditEvaluator:
        """Return what judges edits of a task's network on the images of a loader, by these settings.

        An editor that needs more than the samples of an edit is at its place then, by training images.
        """
        editor = self.editor_for(pl_module).to(pl_module.device)
        split = split_for(editor, network_of(pl_module), self.editable_layers_for(pl_module))
        if needs_place(editor):
            editor = place(editor, split, training_images(pl_module.trainer), loader.batch_size or 1, pl_module.device)
        turns = Turns(*share_of_edits(pl_module.trainer, network_of(pl_module)), loader.batch_size or 1)
        return EditEvaluator(
            split,
            editor,
            loader if turns.number == 1 else loader_of_turns(loader, turns),
            len(loader.dataset),  # type: ignore[arg-type]
            pl_module.device,
            self.image_stride,
            self.edits_at_once,
            self.memory_budget,
            self.scoring,
            sampling,
            self.features_folder,
            self.sensitive_margin,
            None if turns.number == 1 else turns,
        )

    def make_views(self, trainer: Trainer, dataset: Dataset) -> AugmentedViews | None:
        """Return the views of images by which generality is judged and, behind them, those that are edited.

        Args:
            trainer: Of the run, whose data module says how it augments.
            dataset: The images.

        Returns:
            The views; none where there are none of either.
        """
        if not self.generality_views + self.edited_views:
            return None
        return AugmentedViews(
            dataset, self.generality_views + self.edited_views, self._augmentation(trainer), self.generality_seed
        )

    def view_settings(self, trainer: Trainer) -> dict[str, Any]:
        """Return what views depend on besides the images, by option; what was not given is what is taken for it."""
        names = ("generality_views", "generality_seed", "edited_views")
        made = self.generality_views + self.edited_views
        augmentation = self._augmentation(trainer) if made else "none"
        return {name: getattr(self, name) for name in names} | {"generality_augmentation": augmentation}

    def _augmentation(self, trainer: Trainer) -> str:
        datamodule = datamodule_of(trainer)
        trained_with = datamodule.augmentation if isinstance(datamodule, ImageDataModule) else "none"
        return self.generality_augmentation or ("crop_flip" if trained_with == "none" else trained_with)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keep what is done of an interrupted test, and say that it can be gone on with."""
        if self._unfinished is not None:
            self._unfinished.write()
        if isinstance(exception, Interrupted) and trainer.testing and is_kept(folder := run_folder_here(trainer)):
            exception.advice = f"--evaluation.resume {folder}"

    def _take_up(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        evaluator: EditEvaluator,
        base: BasePredictions,
        edits: Edits,
        dataset: Dataset,
    ) -> EditProgress | None:
        """Return what is finished of a test already, and begin to keep what is done of it."""
        settings = {name: getattr(self, name) for name in ("edits_at_once", "image_stride", "sensitive_margin")}
        settings |= self.view_settings(trainer)
        layers = list(self.editable_layers_for(pl_module))
        settings |= {"editable_layers": layers, "processes": trainer.world_size}
        if needs_place(evaluator.editor):
            settings["references"] = images_identity(training_images(trainer))
        identity = edits_identity(network_of(pl_module), evaluator, base, edits, dataset, settings)
        self._unfinished = UnfinishedEdits(run_folder(trainer), trainer.global_rank, identity)
        return None if self.resume is None else read_progress(self.resume, trainer.global_rank, identity)

    def _go_on_without(self, stage: str, number: int) -> None:
        """Leave out the figures of a validation that has nothing to edit, and say so once: training goes on."""
        self.results.pop(stage, None)
        if not self._said_nothing_to_edit:
            rank_zero_warn(
                f"the network makes no mistake on the {number} validation images, so there is none to correct: this "
                "validation, and any other without a mistake, is left without figures of edits"
            )
        self._said_nothing_to_edit = True

    def _evaluate(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        stage: Literal["test", "val"],
        dataloaders: Any,
        num_edits: int,
    ) -> None:
        loader = whole_loader(dataloaders)
        num_images = len(loader.dataset)  # type: ignore[arg-type]
        views = self.make_views(trainer, loader.dataset)
        rank, num_shares = share_of_edits(trainer, network_of(pl_module))
        stream = self.edits.bind(loader.dataset, getattr(datamodule_of(trainer), "classes", None))
        evaluator = self.make_evaluator(pl_module, loader, self.sampling)
        with closing(evaluator), progress_bars(trainer) as progress:
            task = progress.add_task(f"{stage} images through the unedited network", total=num_images)
            base = evaluator.measure_base(lambda images: progress.advance(task, images))
            try:
                edits = stream(base.labels, base.predictions, base.num_classes, num_edits)
            except NothingToEdit:
                if stage == "test" or validates_alone(trainer):
                    raise
                self._go_on_without(stage, len(base.labels))
                return
            own = slice(rank, None, num_shares)
            task = progress.add_task(f"{stage} edits", total=len(edits.indices[own]))
            finished = None
            if stage == "test" and not is_sharded(network_of(pl_module)):
                finished = self._take_up(trainer, pl_module, evaluator, base, edits, loader.dataset)
            outcomes = evaluator.score(
                loader.dataset,
                edits.indices[own],
                edits.labels[own],
                lambda done: progress.advance(task, done),
                len(edits.indices),
                rank,
                views,
                self.edited_views,
                finished=finished,
                keep=self._unfinished.keep if self._unfinished is not None else lambda progress: None,
            )
        of_images = {
            "num_test_images" if stage == "test" else "num_images": len(base.labels),
            "num_scoring_images": evaluator.num_images,
            "num_sensitive_images": evaluator.num_sensitive,
            "scoring_error": evaluator.errors_before / evaluator.num_images,
        }
        of_edits: dict[str, Any] = measure_edits(outcomes, evaluator, self.generality_views, pl_module.device)
        of_edits["num_edits"] = len(edits.indices)
        estimate = None
        if self.sampling:
            estimate = merge_estimates(share for share in all_ranks(evaluator.estimate, num_shares) if share)
            of_edits |= {
                "drawdown": estimate.drawdown,
                "drawdown_half_width": estimate.half_width,
                "num_sampled_images": estimate.forward_passes,
            }
        start = "" if stage == "test" else f"{stage}_"
        kind = self.edits.metric_prefix
        values = {f"{start}{name}": float(value) for name, value in of_images.items()}
        values |= {f"{start}{kind}{name}": float(value) for name, value in of_edits.items()}
        pl_module.log_dict(values, sync_dist=True)
        self.results[stage] = EvaluatedEdits(
            stage,
            edits.indices,
            base.predictions[edits.indices],
            edits.labels,
            gather_outcomes(outcomes, num_shares),
            evaluator.errors_before,
            evaluator.num_images,
            evaluator.num_sensitive,
            self.generality_views,
            self.edited_views,
            views.augmentation if views else "none",
            drawn_images(loader.dataset, edits.indices, datamodule_of(trainer)),
            getattr(datamodule_of(trainer), "classes", None),
            estimate,
        )
        if self._unfinished is not None:  # all processes have got here: they have told each other their outcomes
            self._unfinished.remove()
            self._unfinished = None
