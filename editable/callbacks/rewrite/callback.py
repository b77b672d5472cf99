"""Rewrite a layer of a trained network: try candidates, choose one on validation data, and tell what it does."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from rich.progress import Progress
from rich.table import Table
from torch import nn
from torch.utils.data import Dataset

from editable.callbacks.rewrite.report import RewriteReport
from editable.callbacks.rewrite.trials import (
    RewriteOutcome,
    RewriteTrial,
    SetErrors,
    TrialSettings,
    best_trial,
    measures_of,
    read_trials,
    solver_label,
    standing_trial,
    write_trials,
)
from editable.callbacks.run.context import image_data, network_of, require_gradients, run_folder
from editable.callbacks.run.edit_loop import progress_bars, whole_loader
from editable.callbacks.run.kept_edit import put_edited, write_edit
from editable.callbacks.run.subcommand import Subcommand
from editable.callbacks.site.predictions import RewrittenPredictions
from editable.callbacks.site.sets import (
    check_rules,
    halves,
    manipulated_images,
    moment_dataset,
    original_images,
    rule_images,
    validation_images,
)
from editable.callbacks.site.site import MomentImages, RewriteSite, Route
from editable.data import RewriteRule, labelled_folder
from editable.editing import EditRecord
from editable.errors import UserError, require_at_least
from editable.models import fingerprint
from editable.rewriting import Architecture, ClosedForm, LayerBlock, Regularisation, RewriteResult, Solver

__all__ = ["RankOneRewrite"]

CHECKPOINT = "rewritten.ckpt"
PATCH = "rewrite.safetensors"
GIB = 2**30


class RankOneRewrite(Subcommand):
    """Rewrites one layer of the tested network so that it takes one concept for another, and tells what that does.

    In ``test``: makes every combination of layers, routes, solvers, ranks and strengths; chooses, on images that are
    not reported, the one that corrects most errors on the new concept at a drop in accuracy of at most ``max_drop``
    (Santurkar et al. 2021); measures it, and the best of each solver and route, on images that chose nothing; and
    writes the rewrite as ``rewrite.safetensors``, a patch for the tested weights (``--patches`` of other subcommands),
    and the rewritten network as ``rewritten.ckpt``. A single combination is taken as it is. The tested network
    itself never changes, and ``test_error`` is that of the unedited one.

    Logs of the chosen rewrite, on the sets ``report`` (test images that chose nothing), ``exemplars`` and, where given,
    ``held_out``, ``photographs``, ``trial`` and ``trial_originals`` (``trial_rules`` with and without the new concept):
    ``rewrite_<set>_error_before``, ``rewrite_<set>_error``, ``rewrite_<set>_errors_corrected`` and
    ``rewrite_num_<set>_images``; besides ``rewrite_drop`` on ``report``, ``rewrite_strength``,
    ``rewrite_num_candidates``, and the measures of :class:`~editable.rewriting.RewriteResult` with ``rewrite_`` before
    their names. Leaves ``candidates.csv`` with all that were tried, ``solvers.csv`` with the best of each solver and
    route, ``routes.csv`` where there are ``trial_rules``, and figures.

    Args:
        rule: Exemplars of the new concept in the place of the one that it shall be taken for.
        layers: Names of the layers to try.
        solvers: The solvers to try; by default the closed form.
        ranks: Numbers of directions to try with each solver that is given them; the closed form's is that of keys.
        strengths: Scales on the update to try: θ₀ + s·Δθ.
        routes: Keys of manipulated ``images``, or ``features`` of the texture put on the concept's positions; each is
            tried with every solver that is given keys. By default ``images`` alone.
        keys: One mean key for the whole ``rule``, or one for each ``exemplar``.
        architecture: Keys are a ``pixel`` of the layer's input each, or a ``patch`` of it.
        regularisation: Of the second moment; by default 1e-4 of its mean eigenvalue is added to each.
        moment_split: Images for the second moment: unaugmented ``train`` images, ``val`` images, or those ``test``
            images that choose.
        num_moment_images: Largest number of images for the second moment, drawn by seed.
        moment_positions: Number of positions of each image, drawn by seed; null takes all.
        cache: Folder for second moments, which are used again for the same network, layer and images; null keeps none.
        validation_rule: Exemplars of the same concept that are no part of the rewrite, to choose by. By default the
            rule's own, which any rewrite was made to correct.
        trial_rules: Further exemplars of the same concept, which neither make nor choose a rewrite; on them all routes
            and solvers are compared, see :mod:`editable.callbacks.rewrite.routes`.
        choose_on: Other images to choose by: the data module's ``val`` images, or ``half`` of the test images, drawn by
            seed; then the other half is reported.
        max_drop: Largest drop in accuracy on the images that choose, a fraction.
        photographs: Folder of real images of the new concept, ``<class>/<image>``; they choose nothing.
        memory_budget: In GiB, for features of images.
        seed: Of all draws.
        resume: Folder of a run that was interrupted: its finished candidates are taken over.

    Attributes:
        trials: All that was tried, in order; empty where there was a single combination.
        outcomes: By solver and route, what the best rewrite does; the chosen one among them. Where none corrects
            anything within the drop, the one that corrects most.
        chosen: The solver, and the route, of the chosen rewrite; none where no candidate is within the drop and
            corrects anything.

    Raises:
        UserError: If a number is out of its range; when it runs, if layer, rule or images do not fit the network.
    """

    def __init__(
        self,
        rule: RewriteRule,
        layers: list[str],
        solvers: list[Solver] | None = None,
        ranks: list[int] | None = None,
        strengths: list[float] | None = None,
        routes: list[Route] | None = None,
        keys: Literal["rule", "exemplar"] = "rule",
        architecture: Architecture = "pixel",
        regularisation: Regularisation | None = None,
        moment_split: Literal["train", "val", "test"] = "train",
        num_moment_images: int = 5000,
        moment_positions: int | None = None,
        cache: str | None = "runs/second_moments",
        validation_rule: RewriteRule | None = None,
        trial_rules: list[RewriteRule] | None = None,
        choose_on: Literal["val", "half"] = "val",
        max_drop: float = 0.0025,
        photographs: str | None = None,
        memory_budget: float = 4.0,
        seed: int = 0,
        resume: str | None = None,
    ) -> None:
        self.rule, self.validation_rule, self.photographs = rule, validation_rule, photographs
        self.trial_rules = trial_rules or []
        self.layers, self.solvers = layers, solvers or [ClosedForm()]
        self.ranks, self.strengths = ranks or [1], strengths or [1.0]
        self.routes: list[Route] = routes or ["images"]
        if not layers:
            raise UserError("rewrite.layers is empty: name at least one layer")
        labels = [solver_label(solver) for solver in self.solvers]
        if len(set(labels)) < len(labels):
            raise UserError(f"rewrite.solvers has {max(labels, key=labels.count)} twice: each can be tried once")
        if len(set(self.routes)) < len(self.routes):
            raise UserError(f"rewrite.routes has {max(self.routes, key=self.routes.count)} twice: it can be tried once")
        if min(self.ranks) < 1:
            raise UserError(f"rewrite.ranks are numbers of directions, so at least 1, got {min(self.ranks)}")
        require_at_least(1, num_moment_images=num_moment_images)
        require_at_least(0, seed=seed)
        if not memory_budget > 0:
            raise UserError(f"memory_budget, in GiB, must be positive, got {memory_budget}")
        self.keys, self.architecture = keys, architecture
        self.regularisation = regularisation or Regularisation(epsilon=1e-4)
        self.moment_split, self.num_moment_images = moment_split, num_moment_images
        self.moment_positions, self.cache = moment_positions, cache
        self.choose_on, self.max_drop, self.memory_budget = choose_on, max_drop, memory_budget
        self.seed, self.resume = seed, resume
        self.trials: list[RewriteTrial] = []
        self.outcomes: dict[str, RewriteOutcome] = {}
        self.chosen: str | None = None
        self._report: RewriteReport | None = None
        self._sites: dict[tuple[str, Route], RewriteSite] = {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make the rewrite fail, before anything is computed."""
        require_gradients(trainer.test_loop.inference_mode, "a rewrite needs gradients")
        data = image_data(trainer, "a rewrite")
        for layer in self.layers:
            LayerBlock(network_of(pl_module), layer)
        check_rules((self.rule, self.validation_rule, *self.trial_rules), data)
        if self.photographs is not None:
            labelled_folder(self.photographs, data.classes)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Try the candidates, choose, and measure what was chosen."""
        choosing, reporting = self._image_sets(trainer)
        with progress_bars(trainer) as progress:
            self._prepare(trainer, pl_module, choosing, progress)
            best = self._try_all(trainer, pl_module, choosing, progress)
            self.outcomes = self._measure(best, pl_module, reporting, trainer, progress)
        self._report = RewriteReport(
            self, network_of(pl_module), self._sites, reporting, image_data(trainer, "a rewrite")
        )
        values = {"num_candidates": float(max(len(self.trials), 1))}
        if self.chosen is not None:
            values |= self.outcomes[self.chosen].values()
        pl_module.log_dict({f"rewrite_{name}": value for name, value in values.items()})
        if self.chosen is not None:
            self._keep(trainer, network_of(pl_module), self.outcomes[self.chosen])

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the rewritten parameters in place of the network's own, in the checkpoint alone."""
        if self.chosen is not None:
            put_edited(checkpoint, self.outcomes[self.chosen].params)

    def report(self, trainer: Trainer, folder: Path) -> list[str]:
        """Write tables and figures; return the report's sections in Markdown."""
        return [] if self._report is None else self._report.write(folder)

    def table(self) -> Table:
        """Return errors before and after the chosen rewrite, or the best of each solver, to be printed."""
        assert self._report is not None, "there is a table once the rewrite has run"
        return self._report.table()

    def failure(self) -> str | None:
        """Return what to do where no candidate corrects anything at the allowed drop."""
        if self.chosen is not None:
            return None
        return (
            f"none of {len(self.trials)} candidates corrects an error at a drop of at most {100 * self.max_drop:g} "
            "points on the images that choose: try other layers, solvers or strengths, or allow a larger "
            "rewrite.max_drop"
        )

    @property
    def combinations(self) -> list[TrialSettings]:
        """All combinations of layer, solver, route and rank; each is tried at every strength."""
        return [
            TrialSettings(layer, position, rank, route)
            for layer in self.layers
            for position, solver in enumerate(self.solvers)
            for route in (self.routes if solver.uses_keys else self.routes[:1])
            for rank in (self.ranks if solver.uses_rank else self.ranks[:1])
        ]

    @property
    def num_candidates(self) -> int:
        """Number of rewrites, strengths included."""
        return len(self.combinations) * len(self.strengths)

    def _image_sets(self, trainer: Trainer) -> tuple[dict[str, Dataset], dict[str, Dataset]]:
        """Return the sets that choose, ``target`` and ``others``, and those that are reported."""
        data = image_data(trainer, "a rewrite")
        reported: Dataset = whole_loader(trainer.test_dataloaders).dataset
        choosing = {"target": manipulated_images([self.validation_rule or self.rule], data)}
        if self.num_candidates > 1 and self.choose_on == "half":
            choosing["others"], reported = halves(reported, self.seed)
        elif self.num_candidates > 1:
            choosing["others"] = validation_images(data)
        reporting = {"report": reported, "exemplars": manipulated_images([self.rule], data)}
        if self.validation_rule is not None:
            reporting["held_out"] = choosing["target"]
        if self.photographs is not None:
            reporting["photographs"] = data.evaluated(labelled_folder(self.photographs, data.classes))
        if self.trial_rules:
            reporting["trial"] = manipulated_images(self.trial_rules, data)
            reporting["trial_originals"] = original_images(self.trial_rules, data)
        return choosing, reporting

    def _prepare(
        self, trainer: Trainer, pl_module: LightningModule, choosing: dict[str, Dataset], progress: Progress
    ) -> None:
        """Collect second moments and exemplars at all layers."""
        data = image_data(trainer, "a rewrite")
        choosing_half = choosing.get("others") if self.choose_on == "half" else None
        images = moment_dataset(self.moment_split, data, choosing_half)
        moment = MomentImages.of_run(
            trainer, images, self.num_moment_images, self.moment_positions, self.seed, self.cache
        )
        rule = rule_images(self.rule, data)
        for layer in self.layers:
            task = progress.add_task(f"second moment of {layer}", total=len(moment.drawn))
            site = RewriteSite(
                network_of(pl_module),
                layer,
                rule,
                moment,
                self.routes[0],
                self.keys,
                self.architecture,
                self.regularisation,
                lambda images, task=task: progress.advance(task, images),  # type: ignore[misc]
            )
            progress.remove_task(task)
            self._sites |= {(layer, route): site.by_route(route) for route in self.routes}

    def _try_all(
        self, trainer: Trainer, pl_module: LightningModule, choosing: dict[str, Dataset], progress: Progress
    ) -> list[RewriteTrial]:
        """Try all candidates; choose one, and return it with the best of each other solver."""
        if self.num_candidates == 1:
            (settings,) = self.combinations
            self.chosen = self._label(settings)
            return [RewriteTrial(settings, self.chosen, self.strengths[0])]
        identity = self._identity(pl_module, choosing)
        self.trials = [] if self.resume is None else read_trials(Path(self.resume), identity)
        finished = {trial.settings for trial in self.trials}
        task = progress.add_task("rewrites", total=len(self.combinations))
        for layer in self.layers:
            waiting = [some for some in self.combinations if some.layer == layer and some not in finished]
            progress.advance(task, sum(some.layer == layer for some in self.combinations) - len(waiting))
            predictions: dict[tuple[str, ...], RewrittenPredictions] = {}
            for settings in waiting:
                self.trials += self._try(settings, pl_module, choosing, predictions, trainer)
                if trainer.is_global_zero:
                    write_trials(run_folder(trainer), identity, self.trials)
                progress.advance(task)
            for kept in predictions.values():
                kept.close()
        if trainer.is_global_zero:
            write_trials(run_folder(trainer), identity, self.trials)
        chosen = best_trial(self.trials, self.max_drop)
        self.chosen = None if chosen is None else chosen.solver
        by_solver: dict[str, list[RewriteTrial]] = {}
        for trial in self.trials:
            by_solver.setdefault(trial.solver, []).append(trial)
        return [standing_trial(some, self.max_drop) for some in by_solver.values()]

    def _keep(self, trainer: Trainer, network: nn.Module, outcome: RewriteOutcome) -> None:
        """Write the rewrite as a patch, and the whole rewritten network."""
        settings, solver = self.rule.settings, self.solvers[outcome.trial.settings.solver]
        record = EditRecord(
            [
                f"where {settings['texture'] or settings['variants']} is seen, {outcome.trial.settings.layer} recalls "
                f"what is in the masks of {settings['masks']} ({len(self.rule)} exemplars)"
            ],
            {**outcome.trial.settings._asdict(), "solver": solver_label(solver), "strength": outcome.trial.strength},
            f"{len(outcome.labels['report'])} test images and what else the figures name",
            outcome.values(),
        )
        write_edit(trainer, network, outcome.params, record, PATCH, CHECKPOINT)

    def _try(
        self,
        settings: TrialSettings,
        pl_module: LightningModule,
        choosing: dict[str, Dataset],
        kept: dict[tuple[str, ...], RewrittenPredictions],
        trainer: Trainer,
    ) -> Iterator[RewriteTrial]:
        """Yield a rewrite at each strength, and its errors on the images that choose."""
        network = network_of(pl_module)
        result = self._solve(settings)
        names = tuple(result.params)
        if names not in kept:
            kept[names] = self._predictions(network, names, choosing, trainer)
        predictions = kept[names]
        before = predictions.unedited
        for strength in self.strengths:
            after = predictions(result.scaled(network, strength))
            target, others = (
                SetErrors.of(predictions.labels[name], before[name], after[name]) for name in ("target", "others")
            )
            label = self._label(settings)
            yield RewriteTrial(settings, label, strength, target, others, measures_of(result))

    def _measure(
        self,
        trials: list[RewriteTrial],
        pl_module: LightningModule,
        reporting: dict[str, Dataset],
        trainer: Trainer,
        progress: Progress,
    ) -> dict[str, RewriteOutcome]:
        """Make rewrites once more, and look what they do on the images that are reported."""
        network = network_of(pl_module)
        task = progress.add_task("rewrites on the images that are reported", total=len(trials))
        results = {trial.solver: self._solve(trial.settings) for trial in trials}
        outcomes: dict[str, RewriteOutcome] = {}
        for names in dict.fromkeys(tuple(result.params) for result in results.values()):
            # What lies before these parameters is computed once for all rewrites that change the same.
            with closing(self._predictions(network, names, reporting, trainer)) as predictions:
                for trial in trials:
                    result = results[trial.solver]
                    if tuple(result.params) == names:
                        params = result.scaled(network, trial.strength)
                        measured = trial._replace(measures=measures_of(result))
                        outcomes[trial.solver] = RewriteOutcome(
                            measured, params, predictions.labels, predictions.unedited, predictions(params)
                        )
                        progress.advance(task)
        progress.remove_task(task)
        return {trial.solver: outcomes[trial.solver] for trial in trials}

    def _solve(self, settings: TrialSettings) -> RewriteResult:
        solver = self.solvers[settings.solver]
        site = self._sites[settings.layer, settings.route]
        return solver(site.problem(settings.rank, solver.uses_references))

    def _predictions(
        self, network: nn.Module, names: tuple[str, ...], sets: dict[str, Dataset], trainer: Trainer
    ) -> RewrittenPredictions:
        return RewrittenPredictions(
            network, names, sets, image_data(trainer, "a rewrite").batch_size, int(self.memory_budget * GIB)
        )

    def _identity(self, pl_module: LightningModule, choosing: dict[str, Dataset]) -> dict[str, Any]:
        """Return what a candidate's outcome depends on besides its settings, as JSON holds it."""
        target = (self.validation_rule or self.rule).manipulated
        return {
            "weights": fingerprint(network_of(pl_module).state_dict()),
            "solvers": [solver_label(solver) for solver in self.solvers],
            "strengths": self.strengths,
            "routes": self.routes,
            "keys": self.keys,
            "architecture": self.architecture,
            "regularisation": str(self.regularisation),
            "rule": fingerprint({"images": self.rule.manipulated, "masks": self.rule.masks}),
            "target": fingerprint({"images": target}),
            "moment": [self.moment_split, self.num_moment_images, self.moment_positions],
            "choose_on": [self.choose_on, len(choosing["others"])],  # type: ignore[arg-type]
            "seed": self.seed,
        }

    def _label(self, settings: TrialSettings) -> str:
        """Return how a solver is called, with the route where there are several."""
        solver = self.solvers[settings.solver]
        several = len(self.routes) > 1 and solver.uses_keys
        return f"{solver_label(solver)} by {settings.route}" if several else solver_label(solver)
