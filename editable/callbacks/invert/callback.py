"""Compare a rewrite in the inverse direction with the forward one: does the rule survive, and at what cost?"""

import warnings
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from rich.progress import Progress
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

import editable.callbacks.invert.report as report
from editable.callbacks.invert.methods import METHODS, MethodName, chosen_methods, met_constraint
from editable.callbacks.invert.outcome import Constraint, InverseDirectionOutcome, MethodOutcome
from editable.callbacks.run.context import image_data, network_of, require_gradients
from editable.callbacks.run.edit_loop import progress_bars, whole_loader
from editable.callbacks.run.replaced_examples import ReplacedExamples
from editable.callbacks.run.subcommand import Subcommand
from editable.callbacks.site.moment import MomentSettings
from editable.callbacks.site.predictions import RewrittenPredictions
from editable.callbacks.site.rule_images import check_rules, rule_images
from editable.callbacks.site.set_errors import SetErrors
from editable.callbacks.site.site import RewriteSite, Route
from editable.data import ImageDataModule, RewriteRule
from editable.errors import UserError, require_at_least, require_choice, require_finite, require_positive, require_seed
from editable.models.machine.devices import budget_in_bytes
from editable.rewriting import (
    Architecture,
    LayerBlock,
    RewriteProblem,
    RewriteResult,
    correlate_periodically,
)
from editable.rewriting.memory.output_change import OutputChange, relative_output_changes
from editable.rewriting.solvers.periodic_change import rewrite_periodically

__all__ = ["InverseDirectionStudy"]

WHAT = "a study of the inverse direction"
BATCH = 50  # images whose change of outputs is looked at at once
SHOWN = 8  # exemplars

MOMENT = MomentSettings(num_images=500, cache="runs/second_moments")


class _Rewrite(NamedTuple):
    """A rewrite before errors are counted: the network that its parameters are of, what was solved, what was met."""

    network: nn.Module
    result: RewriteResult
    constraint: Constraint


class InverseDirectionStudy(Subcommand):
    """Puts one rule into one layer forwards, backwards and in the Fourier domain, and tells whether it survives.

    In ``test``: the closed form with keys that are pixels and patches (architectures 1 and 2 of Elango 2021; the latter
    is the exact least change of the kernel, borders included), Wᵀ and W† with the same memories read backwards (3 and
    4), and the closed form in the Fourier domain, with a kernel as large as the map and cut to the layer's. Tells of
    each whether the constraint survives inversion, what is left of it, how much the layer's outputs change on other
    images, and the errors on test images, the exemplars and, where given, held-out images of the concept. All see the
    same exemplars and the same images for second moments. The tested network itself never changes.

    Logs ``invert_num_<set>_images`` and ``invert_<set>_error_before`` for the sets ``report``, ``exemplars`` and
    ``held_out``; and of each method, with ``invert_<method>_`` before, ``residual_before``, ``residual``,
    ``inverse_residual``, ``survives``, ``loss_before``, ``loss``, ``output_change``, ``relative_norm``, ``seconds`` and
    ``<set>_error`` at full strength, or the last one. Leaves ``methods.csv`` with all strengths, figures, and
    ``invert_outcome.pt``.

    Args:
        rule: Exemplars of the new concept in the place of the one that it shall be taken for.
        layer: Name of the rewritten layer.
        methods: What to compare; by default all that the layer allows: ``closed_form_pixel``, ``closed_form_patch``,
            ``transpose_pixel``, ``transpose_patch``, ``pseudo_inverse_pixel``, ``pseudo_inverse_patch``; of
            convolutions of stride 1 whose outputs are as large as their inputs also ``fourier_full_size`` and
            ``fourier_cut``.
        strengths: Scales on the updates, θ₀ + s·Δθ.
        held_out: Exemplars of the same concept that are no part of the rule.
        route: Keys of manipulated ``images``, or ``features`` of the texture put on the concept's positions.
        moment: The images for second moments, and how these are regularised; those of outputs are not cached.
        num_images: Largest number of test images that errors are counted on, drawn by seed; null takes all.
        memory_budget: In GiB, for features of images; by default half of what a CUDA device has left, 4 elsewhere.
        seed: Of all draws.

    Attributes:
        outcome: Errors of the unedited network on each set (``before``), and what each method came to, by its name
            (``methods``), see :class:`~editable.callbacks.invert.outcome.InverseDirectionOutcome`; none before the run.
        results: The rewrite by each method, with the changed parameters.

    Raises:
        UserError: If a number is out of its range or there is nothing to compare; when it runs, if layer, rule or
            images do not fit the network or a method.
    """

    command = "invert"
    summary, write = staticmethod(report.summary), staticmethod(report.write)

    def __init__(
        self,
        rule: RewriteRule,
        layer: str,
        methods: list[MethodName] | None = None,
        strengths: list[float] | None = None,
        held_out: RewriteRule | None = None,
        route: Route = "images",
        moment: MomentSettings = MOMENT,
        num_images: int | None = None,
        memory_budget: float | None = None,
        seed: int = 0,
    ) -> None:
        require_finite(strengths=strengths)
        require_choice(Route, **{"invert.route": route})
        self.rule, self.layer, self.held_out = rule, layer, held_out
        self.methods, self.strengths = methods, sorted(set(strengths or [1.0]))
        if methods is not None and (
            not methods or len(set(methods)) < len(methods) or not set(methods) <= set(METHODS)
        ):
            raise UserError(
                f"invert.methods must be different ones of {', '.join(METHODS)}, and at least one, got {methods}"
            )
        require_at_least(1, num_images=num_images)
        require_seed(seed=seed)
        require_positive(memory_budget=memory_budget)
        self.route, self.moment = route, moment
        self.num_images, self.memory_budget, self.seed = num_images, memory_budget, seed
        self.outcome: InverseDirectionOutcome | None = None
        self.results: dict[MethodName, RewriteResult] = {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make it fail, before anything is computed."""
        require_gradients(trainer.test_loop.inference_mode, "a rewrite needs gradients")
        data = image_data(trainer, WHAT)
        block = LayerBlock(network_of(pl_module), self.layer)
        chosen_methods(self.methods, block)
        check_rules((self.rule, self.held_out), data)
        self.moment.images(trainer)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rewrite the layer in all ways, and count errors."""
        data, network = image_data(trainer, WHAT), network_of(pl_module)
        block, sets = LayerBlock(network, self.layer), self._image_sets(trainer, data)
        names = chosen_methods(self.methods, block)
        with progress_bars(trainer) as progress:
            problems = self._problems(names, trainer, pl_module, data, progress)
            rewrites = self._rewrites(names, problems, progress)
            changes = self._output_changes(rewrites, problems, progress)
            before, errors = self._count_errors(rewrites, network, sets, data.batch_size, progress)
        self.results = {name: rewrite.result for name, rewrite in rewrites.items()}
        rule, some = self.rule, slice(SHOWN)
        self.outcome = InverseDirectionOutcome(
            self.layer,
            self.moment.num_images,
            self.strengths,
            before,
            {name: _method_outcome(name, rewrites[name], changes[name], errors[name]) for name in names},
            ReplacedExamples(rule.originals[some], rule.manipulated[some], rule.masks[some], rule.names[some]),
        )
        pl_module.log_dict({f"invert_{name}": value for name, value in self.outcome.values().items()})

    def _image_sets(self, trainer: Trainer, data: ImageDataModule) -> dict[str, Dataset]:
        reported: Dataset = whole_loader(trainer.test_dataloaders).dataset
        total = _count(reported)
        if self.num_images is not None and self.num_images < total:
            order = torch.randperm(total, generator=torch.Generator().manual_seed(self.seed))
            reported = Subset(reported, order[: self.num_images].sort().values.tolist())
        sets = {"report": reported, "exemplars": _with_the_concept(self.rule, data)}
        if self.held_out is not None:
            sets["held_out"] = _with_the_concept(self.held_out, data)
        return sets

    def _problems(
        self,
        names: list[MethodName],
        trainer: Trainer,
        pl_module: LightningModule,
        data: ImageDataModule,
        progress: Progress,
    ) -> dict[Architecture, RewriteProblem]:
        """Return the rule at the layer as each of the memories sees it, with the images for second moments."""
        moment = self.moment.images(trainer)
        drawn = moment.drawn
        references = torch.stack([torch.as_tensor(drawn[index][0]) for index in range(len(drawn))])
        rule = rule_images(self.rule, data)
        problems: dict[Architecture, RewriteProblem] = {}
        for architecture in dict.fromkeys(METHODS[name].architecture for name in names):
            task = progress.add_task(f"second moment of inputs ({architecture})", total=len(drawn))
            site = RewriteSite(
                network_of(pl_module),
                self.layer,
                rule,
                moment,
                route=self.route,
                keys="rule",
                architecture=architecture,
                regularisation=self.moment.regularised,
                progress=lambda images, task=task: progress.advance(task, images),  # type: ignore[misc]
            )
            problems[architecture] = replace(site.problem(1), reference_images=references)
            progress.remove_task(task)
        return problems

    def _rewrites(
        self, names: list[MethodName], problems: dict[Architecture, RewriteProblem], progress: Progress
    ) -> dict[MethodName, _Rewrite]:
        """Rewrite the layer by each method."""
        task = progress.add_task("rewrites", total=len(names))
        rewrites: dict[MethodName, _Rewrite] = {}
        for name in names:
            method = METHODS[name]
            problem, solver = problems[method.architecture], None if method.solver is None else method.solver()
            network = problem.block.network
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*‖W V", UserWarning)  # the table and the report say it
                if solver is None:
                    network, result = rewrite_periodically(problem)
                else:
                    result = solver(problem)
            rewrites[name] = _Rewrite(network, result, met_constraint(problem, solver, result))
            progress.advance(task)
        progress.remove_task(task)
        return rewrites

    def _output_changes(
        self,
        rewrites: dict[MethodName, _Rewrite],
        problems: dict[Architecture, RewriteProblem],
        progress: Progress,
    ) -> dict[MethodName, float]:
        """Return how much the layer's outputs change on the images for second moments, by method."""
        problem = next(iter(problems.values()))
        block, references = problem.block, problem.reference_images
        assert references is not None, "they are part of each problem"

        batches = progress.track(references.split(BATCH), description="change of outputs")
        changes = {name: _change_of_outputs(block, rewrite.result) for name, rewrite in rewrites.items()}
        return relative_output_changes(block, batches, changes)

    def _count_errors(
        self,
        rewrites: dict[MethodName, _Rewrite],
        network: nn.Module,
        sets: dict[str, Dataset],
        batch_size: int,
        progress: Progress,
    ) -> tuple[dict[str, SetErrors], dict[MethodName, dict[float, dict[str, SetErrors]]]]:
        """Count the errors without a rewrite, by set, and with each, by method, strength and set.

        Rewrites of one network share the features that lead to the layer.
        """
        num_images = sum(map(_count, sets.values()))
        budget = budget_in_bytes(next(network.parameters()).device, self.memory_budget)
        before: dict[str, SetErrors] = {}
        errors: dict[MethodName, dict[float, dict[str, SetErrors]]] = {}
        for variant in [network, *(rewrite.network for rewrite in rewrites.values() if rewrite.network is not network)]:
            own = {name: rewrite for name, rewrite in rewrites.items() if rewrite.network is variant}
            params = next((list(rewrite.result.params) for rewrite in own.values()), [f"{self.layer}.weight"])
            task = progress.add_task("features of images", total=num_images)
            advance = partial(progress.advance, task)
            predictions = RewrittenPredictions(variant, params, sets, batch_size, budget, advance)
            progress.remove_task(task)
            task = progress.add_task("errors", total=len(own))
            with closing(predictions):
                if variant is network:
                    before = _errors(predictions, predictions.unedited)
                for name, rewrite in own.items():
                    errors[name] = {
                        strength: _errors(predictions, predictions(rewrite.result.scaled(variant, strength)))
                        for strength in self.strengths
                    }
                    progress.advance(task)
            progress.remove_task(task)
        return before, errors


def _count(images: Dataset) -> int:
    return len(images)  # type: ignore[arg-type]


def _change_of_outputs(block: LayerBlock, result: RewriteResult) -> OutputChange:
    """Return the change of the layer's outputs for its inputs."""
    if block.weight_name in result.params:
        weight = result.params[block.weight_name]
        return lambda inputs: block.outputs(inputs, weight) - block.outputs(inputs)
    (change,) = result.params.values()
    return lambda inputs: correlate_periodically(inputs, change)


def _errors(predictions: RewrittenPredictions, after: dict[str, torch.Tensor]) -> dict[str, SetErrors]:
    return {
        name: SetErrors.of(labels, predictions.unedited[name], after[name])
        for name, labels in predictions.labels.items()
    }


def _method_outcome(
    name: MethodName, rewrite: _Rewrite, output_change: float, errors: dict[float, dict[str, SetErrors]]
) -> MethodOutcome:
    result = rewrite.result
    return MethodOutcome(
        METHODS[name].label,
        rewrite.constraint,
        result.loss_before,
        result.loss,
        output_change,
        result.relative_norm,
        result.seconds,
        errors,
    )


def _with_the_concept(rule: RewriteRule, data: ImageDataModule) -> Dataset:
    return TensorDataset(data.normalisation(rule.manipulated), rule.labels(data.classes))
