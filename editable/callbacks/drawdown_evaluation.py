"""Drawdown evaluation: make many edits of a trained network and count what each costs on other inputs."""

import csv
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import Metric

from editable.atomic import write_atomically
from editable.callbacks.edit_loop import all_ranks, gather_outcomes, progress_bars, validates_alone, whole_loader
from editable.data.edit_streams import EditStream, RandomLabelEdits
from editable.editing import (
    BaseEditor,
    DrawdownEstimate,
    EditEvaluator,
    EditOutcomes,
    SamplingSettings,
    merge_estimates,
)
from editable.errors import UserError, require_at_least
from editable.metrics import Drawdown, DrawdownAbsolute, NumSteps, SuccessRate
from editable.models import ScoringSettings, SplitNetwork, select_parameters
from editable.visualize import plot_drawdown, plot_edited_images, plot_success

__all__ = ["DrawdownEvaluation", "EvaluatedEdits"]


@dataclass(frozen=True)
class EvaluatedEdits:
    """The edits of an evaluation and what became of each; tensors lie on the CPU.

    Attributes:
        index: Position of the edited input in its data set, int64 [E].
        old_label: What the unedited network predicts for it, int64 [E].
        new_label: The label asked for, int64 [E].
        outcomes: Success, number of steps and errors on the scoring images after each edit.
        errors_before: Number of misclassified scoring images of the unedited network.
        num_images: Number of scoring images.
        images: The first edited inputs, as the network gets them, at most 24, [n, C, H, W].
        estimate: Where only a random part of the scoring images was looked at: mean drawdown with its interval.
    """

    index: Tensor
    old_label: Tensor
    new_label: Tensor
    outcomes: EditOutcomes
    errors_before: int
    num_images: int
    images: Tensor
    estimate: DrawdownEstimate | None = None

    @property
    def drawdown(self) -> Tensor:
        """Change of the error rate on the scoring images by each edit, float64 [E]."""
        return (self.outcomes.errors_after - self.errors_before).double() / self.num_images


class DrawdownEvaluation(Callback):
    """Evaluates edits by the published protocol, in ``test`` and, with fewer edits, in validation.

    Each edit starts from the trained network; drawdown is the change of the error rate on the scoring images, averaged
    over edits. Logs ``drawdown`` (signed), ``drawdown_absolute`` (mean of absolute changes), ``success_rate`` and
    ``num_steps``, and beside them ``num_edits``, ``num_test_images`` (all images, which ``test_error`` is measured
    on), ``num_scoring_images`` and ``scoring_error`` (the unedited network's error on those); in validation with
    ``val_`` before the name. With ``sampling``, ``drawdown`` is an unbiased estimate, ``drawdown_half_width`` the
    half-width of its 95 % confidence interval and ``num_sampled_images`` the number of images looked at over all
    edits; ``drawdown_absolute`` is left out, as the noise of an estimate would enlarge it. Edits are shared out over
    ranks.

    Args:
        num_edits: Number of edits in ``test``; 0 evaluates none.
        val_num_edits: Number of edits in validation; 0 evaluates none.
        val_every_n_epochs: Evaluate edits in every n-th epoch of a training run.
        edits: Which input gets which label: ``RandomLabelEdits`` (published, the default) or ``NaturalMistakeEdits``.
        editor: Makes the edits; by default the task's own, with the constants that it has learnt.
        editable_layers: Which parameters an edit may change; by default the task's own.
        image_stride: Score on every n-th image of the data set; the published ImageNet protocol takes 10.
        edits_at_once: Number of edits computed together; 1 repeats a loop over single edits bit for bit.
        memory_budget: In GiB, for prefix features and edited parameters; features over half of it are kept on disk.
        features_folder: Where features that do not fit into memory are kept; by default the system's temporary folder.
        scoring: How edited networks are run on the scoring images; by default what is fastest in full precision.
        sampling: Look at a random part of the scoring images for each edit: give its ``half_width``, or a number of
            ``forward_passes``. By default all are looked at.

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
        memory_budget: float = 4.0,
        features_folder: str | None = None,
        scoring: ScoringSettings | None = None,
        sampling: SamplingSettings | None = None,
    ) -> None:
        require_at_least(0, num_edits=num_edits, val_num_edits=val_num_edits)
        require_at_least(
            1, val_every_n_epochs=val_every_n_epochs, image_stride=image_stride, edits_at_once=edits_at_once
        )
        if not memory_budget > 0:
            raise UserError(f"memory_budget, in GiB, must be positive, got {memory_budget}")
        self.num_edits, self.val_num_edits, self.val_every_n_epochs = num_edits, val_num_edits, val_every_n_epochs
        self.edits = edits or RandomLabelEdits()
        self.editor = editor
        self.editable_layers = editable_layers
        self.image_stride, self.edits_at_once, self.memory_budget = image_stride, edits_at_once, memory_budget
        self.features_folder = None if features_folder is None else Path(features_folder)
        if self.features_folder is not None and not self.features_folder.is_dir():
            raise UserError(f"features_folder {features_folder!r} is not a folder")
        self.scoring, self.sampling = scoring, sampling
        self.results: dict[str, EvaluatedEdits] = {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make the evaluation fail, before anything is computed."""
        if self.num_edits:
            self.check(pl_module, trainer.test_loop.inference_mode)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make the evaluation fail, before anything is computed."""
        if self.val_num_edits:
            self.check(pl_module, validates_alone(trainer) and trainer.validate_loop.inference_mode)

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
        """Write the table and the figures of each evaluation; return the report's sections in Markdown."""
        sections = []
        for stage, result in self.results.items():
            start = "" if stage == "test" else f"{stage}_"
            images = _for_figure(result.images, _datamodule(trainer))
            classes = getattr(_datamodule(trainer), "classes", None)
            outcomes = result.outcomes
            _write_table(folder / f"{start}edits.csv", result)
            plot_edited_images(folder / f"{start}edits.png", images, result.old_label, result.new_label, classes)
            plot_drawdown(folder / f"{start}drawdown.png", {"edited": result.drawdown})
            plot_success(folder / f"{start}success.png", {"edited": (outcomes.success, outcomes.num_steps)})
            sections.append(
                f"## Edits on the {stage} set\n\n"
                f"{len(result.index)} edits, each scored on {_describe_scoring(result)}; every edit has its line in "
                f"[{start}edits.csv]({start}edits.csv).\n\n"
                f"![The first edited images with old and asked label]({start}edits.png)\n\n"
                f"![Distribution of drawdown over edits]({start}drawdown.png)\n\n"
                f"![Success against number of steps]({start}success.png)\n"
            )
        return sections

    def check(self, pl_module: LightningModule, inference_mode: bool) -> None:
        """Raise a :class:`UserError` where edits cannot be made."""
        if inference_mode:
            raise UserError(
                "an edit needs gradients, but the trainer is in inference mode: use Trainer(inference_mode=False)"
            )
        if self.editor_for(pl_module) is None:
            raise UserError(
                f"{type(pl_module).__name__} brings no editor: name one in evaluation.editor, "
                "or set evaluation.num_edits to 0"
            )
        if self.editable_layers_for(pl_module) is None:
            raise UserError(
                f"{type(pl_module).__name__} brings no editable layers: name them in evaluation.editable_layers, "
                "such as [layer3], or set evaluation.num_edits to 0"
            )
        network: Any = pl_module.network
        select_parameters(network, self.editable_layers_for(pl_module))  # raises for names that match nothing

    def editor_for(self, pl_module: LightningModule) -> Any:
        """Return the editor that was given or else the task's own."""
        return self.editor if self.editor is not None else getattr(pl_module, "editor", None)

    def editable_layers_for(self, pl_module: LightningModule) -> Any:
        """Return the editable layers that were given or else the task's own."""
        return self.editable_layers if self.editable_layers is not None else getattr(pl_module, "editable_layers", None)

    def make_evaluator(
        self, pl_module: LightningModule, loader: DataLoader, sampling: SamplingSettings | None
    ) -> EditEvaluator:
        """Return what judges edits of a task's network on the images of a loader, by these settings."""
        return EditEvaluator(
            SplitNetwork(cast(nn.Module, pl_module.network), self.editable_layers_for(pl_module)),
            self.editor_for(pl_module).to(pl_module.device),
            loader,
            len(loader.dataset),  # type: ignore[arg-type]
            pl_module.device,
            self.image_stride,
            self.edits_at_once,
            self.memory_budget,
            self.scoring,
            sampling,
            self.features_folder,
        )

    def _evaluate(
        self, trainer: Trainer, pl_module: LightningModule, stage: str, dataloaders: Any, num_edits: int
    ) -> None:
        loader = whole_loader(dataloaders)
        num_images = len(loader.dataset)  # type: ignore[arg-type]
        evaluator = self.make_evaluator(pl_module, loader, self.sampling)
        with closing(evaluator), progress_bars(trainer) as progress:
            task = progress.add_task(f"{stage} images through the unedited network", total=num_images)
            base = evaluator.measure_base(lambda images: progress.advance(task, images))
            edits = self.edits(base.labels, base.predictions, base.num_classes, num_edits)
            own = slice(trainer.global_rank, None, trainer.world_size)
            task = progress.add_task(f"{stage} edits", total=len(edits.indices[own]))
            outcomes = evaluator.score(
                loader.dataset,
                edits.indices[own],
                edits.labels[own],
                lambda done: progress.advance(task, done),
                len(edits.indices),
                trainer.global_rank,
            )
        counts = {
            "num_edits": len(edits.indices),
            "num_test_images" if stage == "test" else "num_images": len(base.labels),
            "num_scoring_images": evaluator.num_images,
            "scoring_error": evaluator.errors_before / evaluator.num_images,
        }
        values: dict[str, Any] = {**_measure(outcomes, evaluator, pl_module.device), **counts}
        estimate = None
        if self.sampling:
            estimate = merge_estimates(share for share in all_ranks(evaluator.estimate, trainer.world_size) if share)
            values |= {
                "drawdown": estimate.drawdown,
                "drawdown_half_width": estimate.half_width,
                "num_sampled_images": estimate.forward_passes,
            }
        start = "" if stage == "test" else f"{stage}_"
        pl_module.log_dict({f"{start}{name}": float(value) for name, value in values.items()}, sync_dist=True)
        self.results[stage] = EvaluatedEdits(
            edits.indices,
            base.predictions[edits.indices],
            edits.labels,
            gather_outcomes(outcomes, trainer.world_size),
            evaluator.errors_before,
            evaluator.num_images,
            torch.stack([torch.as_tensor(loader.dataset[index][0]) for index in edits.indices[:24].tolist()]),
            estimate,
        )


def _measure(outcomes: EditOutcomes, evaluator: EditEvaluator, device: torch.device) -> dict[str, Tensor]:
    """Compute the metrics from this rank's share of the edits; they sum over ranks, on the device of the network."""
    success_rate, num_steps = SuccessRate(), NumSteps()
    success_rate.update(outcomes.success)
    num_steps.update(outcomes.num_steps)
    metrics: dict[str, Metric] = {"success_rate": success_rate, "num_steps": num_steps}
    if evaluator.sampling is None:  # else errors are not counted but estimated
        before = torch.tensor(evaluator.errors_before)
        for name, drawdown in {"drawdown": Drawdown(), "drawdown_absolute": DrawdownAbsolute()}.items():
            drawdown.update(before, outcomes.errors_after, evaluator.num_images)
            metrics[name] = drawdown
    return {name: metric.to(device).compute() for name, metric in metrics.items()}


def _datamodule(trainer: Trainer) -> Any:
    return trainer.datamodule  # type: ignore[attr-defined]


def _for_figure(images: Tensor, datamodule: Any) -> Tensor:
    """Return images in [0, 1], [n, C, H, W], with the data module's normalisation taken back."""
    mean, std = (getattr(datamodule, name, None) for name in ("mean", "std"))
    if mean is None or std is None:
        low, high = images.amin(), images.amax()
        return (images - low) / (high - low).clamp_min(1e-12)
    return (images * torch.tensor(std).view(-1, 1, 1) + torch.tensor(mean).view(-1, 1, 1)).clamp(0, 1)


def _describe_scoring(result: EvaluatedEdits) -> str:
    if result.estimate is None:
        return f"{result.num_images} images"
    estimate = result.estimate
    return (
        f"a random part of {result.num_images} images, {estimate.forward_passes} looked at in all: drawdown "
        f"{100 * estimate.drawdown:.3f} ± {100 * estimate.half_width:.3f} points (95 % confidence); the drawdown of a "
        "single edit is an estimate with much noise"
    )


def _write_table(path: Path, result: EvaluatedEdits) -> None:
    columns = {
        "index": result.index,
        "old_label": result.old_label,
        "new_label": result.new_label,
        "success": result.outcomes.success.int(),
        "num_steps": result.outcomes.num_steps,
        "drawdown": result.drawdown,
    }
    with write_atomically(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
