"""Rewrite a layer of a trained network: try candidates, choose one on validation data, and tell what it does."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from rich.progress import Progress
from torch import Tensor, nn

from editable.callbacks.rewrite.candidates import Candidates
from editable.callbacks.rewrite.image_sets import ChooseOn, RewriteImages, places_in, rewrite_images, without_exemplars
from editable.callbacks.rewrite.outcome import OTHERS, MeasuredRewrite, RewriteOutcome
from editable.callbacks.rewrite.report import summary, write
from editable.callbacks.rewrite.resuming import KEPT, check_trials, read_trials, trials_identity, write_trials
from editable.callbacks.rewrite.shown import shown_changes, shown_exemplars, shown_heat_maps
from editable.callbacks.rewrite.trials import RewriteTrial, best_trial, standing_trials
from editable.callbacks.rewrite.workbench import Workbench
from editable.callbacks.run.context import image_data, network_of, optional_path, require_gradients, run_folder
from editable.callbacks.run.edit_loop import all_ranks, progress_bars, whole_loader
from editable.callbacks.run.image_identity import images_identity
from editable.callbacks.run.kept_edit import config_of, put_edited, write_edit
from editable.callbacks.run.read_ahead import read_all
from editable.callbacks.run.subcommand import Subcommand
from editable.callbacks.run.titles import title_of
from editable.callbacks.site.moment import MomentImages, MomentSettings
from editable.callbacks.site.rule_images import check_rules, rule_images
from editable.callbacks.site.site import KeysOf, RewriteSite, Route
from editable.data import ImageDataModule, RewriteRule
from editable.data.images.same_images import SameImages
from editable.editing import EditRecord, Harm, upper_bound
from editable.errors import require_choice, require_positive, require_seed, require_within
from editable.models.machine.devices import budget_in_bytes
from editable.rewriting import Architecture, ClosedForm, LayerBlock, Solver

__all__ = ["RankOneRewrite"]

CHECKPOINT = "rewritten.ckpt"
PATCH = "rewrite.safetensors"
MOMENT = MomentSettings(num_images=5000, cache="runs/second_moments")


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
        moment: The images for the second moment, and how it is regularised.
        validation_rule: Exemplars of the same concept that are no part of the rewrite, to choose by. By default the
            rule's own, which any rewrite was made to correct.
        trial_rules: Further exemplars of the same concept, which neither make nor choose a rewrite; on them all routes
            and solvers are compared, see :mod:`editable.callbacks.rewrite.routes`.
        choose_on: Other images to choose by: the data module's ``val`` images, unless these are the test images for
            want of others, or ``half`` of the test images, drawn by seed; then the other half is reported.
        max_drop: Largest drop in accuracy on the images that choose, a fraction.
        photographs: Folder of real images of the new concept, ``<class>/<image>``; they choose nothing.
        memory_budget: In GiB, for features of images; by default half of what a CUDA device has left, 4 elsewhere.
        seed: Of the halves of the test images; that of the second moment's draws is its own.
        resume: Folder of a run that was interrupted: its finished candidates are taken over. Network,
            candidates, rule and images, those of second moments too, must be the same.
        log: Folder of the log of corrections, to which a rewrite adds a line: by default ``corrections`` beside the
            runs (docs/patch-format.md); ``false`` for none.

    Attributes:
        outcome: What was tried and what came out; its ``trials``, ``rewrites`` and ``chosen``.
        params: By solver and route, as the outcome's ``rewrites``: the changed parameters of the best rewrite by name.

    Raises:
        UserError: If a number is out of its range; when it runs, if layer, rule or images do not fit the network.
    """

    command, kept = "rewrite", KEPT
    leaves = (PATCH, CHECKPOINT, KEPT, "candidates.csv")
    summary, write = staticmethod(summary), staticmethod(write)

    def __init__(
        self,
        rule: RewriteRule,
        layers: list[str],
        solvers: list[Solver] | None = None,
        ranks: list[int] | None = None,
        strengths: list[float] | None = None,
        routes: list[Route] | None = None,
        keys: KeysOf = "rule",
        architecture: Architecture = "pixel",
        moment: MomentSettings = MOMENT,
        validation_rule: RewriteRule | None = None,
        trial_rules: list[RewriteRule] | None = None,
        choose_on: ChooseOn = "val",
        max_drop: float = 0.0025,
        photographs: str | None = None,
        memory_budget: float | None = None,
        seed: int = 0,
        resume: str | None = None,
        log: bool | str = True,
    ) -> None:
        self.rule, self.validation_rule, self.photographs = rule, validation_rule, photographs
        self.trial_rules = trial_rules or []
        self.candidates = Candidates(
            layers, solvers or [ClosedForm()], ranks or [1], strengths or [1.0], routes or ["images"]
        )
        require_choice(KeysOf, **{"rewrite.keys": keys})
        require_choice(Architecture, **{"rewrite.architecture": architecture})
        require_choice(ChooseOn, **{"rewrite.choose_on": choose_on})
        require_seed(seed=seed)
        require_positive(memory_budget=memory_budget)
        require_within("[-1, 1]", max_drop=max_drop)
        self.keys, self.architecture, self.moment = keys, architecture, moment
        self.choose_on, self.max_drop, self.memory_budget = choose_on, max_drop, memory_budget
        self.seed, self.resume, self.kept_log = seed, optional_path(resume), log
        self.outcome: RewriteOutcome | None = None
        self.params: dict[str, dict[str, Tensor]] = {}
        self._sets: RewriteImages | None = None
        self._moments: MomentImages | None = None
        self._of_rules = torch.zeros(0, 0)
        self._exemplars = SameImages(self._of_rules)
        self._seen: list[Tensor] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make the rewrite fail, before anything is computed."""
        require_gradients(trainer.test_loop.inference_mode, "a rewrite needs gradients")
        data = image_data(trainer, "a rewrite")
        for layer in self.candidates.layers:
            LayerBlock(network_of(pl_module), layer)
        check_rules((self.rule, self.validation_rule, *self.trial_rules), data)
        self._sets = self._images(trainer, data)
        rules = filter(None, (self.rule, self.validation_rule, *self.trial_rules))
        of_rules = [images for rule in rules for images in rule_images(rule, data)[:2]]
        self._of_rules, self._seen = torch.cat(of_rules), []
        self._exemplars = SameImages(self._of_rules)
        if self.photographs is not None:
            read_all(self._sets.reporting["photographs"], data, "photograph")
        own_half = self._sets.choosing.get("others") if self.choose_on == "half" else None
        self._moments = self.moment.images(trainer, own_half)
        if self.resume is not None:
            check_trials(self.resume)
            if self._has_choice:
                read_trials(self.resume, self._identity(trainer, network_of(pl_module), self._sets))

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note which test images are exemplars of the rules."""
        self._seen.append(self._exemplars(batch[0]))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Try the candidates, choose, and measure what was chosen."""
        network, data = network_of(pl_module), image_data(trainer, "a rewrite")
        assert self._sets is not None, "they are read when the test starts"
        images, is_exemplar = self._sets, self._are_exemplars(trainer)
        with progress_bars(trainer) as progress:
            sites = self._sites(network, data, progress)
            budget = budget_in_bytes(pl_module.device, self.memory_budget)
            bench = Workbench(network, self.candidates, sites, data.batch_size, budget, progress)
            if self._has_choice:
                trials = self._try_all(trainer, network, bench, images, is_exemplar)
                best = best_trial(trials, self.max_drop)
                standing = standing_trials(trials, self.max_drop)
            else:
                (settings,) = self.candidates.combinations
                best = RewriteTrial(settings, self.candidates.label(settings), self.candidates.strengths[0])
                trials, standing = [], [best]
            rewrites, self.params = bench.measure(standing, images.reporting)
        places = places_in(images.reporting["report"], whole_loader(trainer.test_dataloaders).dataset)
        rewrites = {name: some.with_others(is_exemplar[places or []]) for name, some in rewrites.items()}
        self.outcome = self._outcome(trials, rewrites, best, bench, images, data)
        pl_module.log_dict({f"rewrite_{name}": value for name, value in self.outcome.values().items()})
        if best is not None:
            self._keep(trainer, network, rewrites[best.solver])

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the rewritten parameters in place of the network's own, in the checkpoint alone."""
        if self.outcome is not None and self.outcome.chosen is not None:
            put_edited(checkpoint, network_of(pl_module), self.params[self.outcome.chosen])

    def failure(self) -> str | None:
        """Return what to do where no candidate corrects anything at the allowed drop."""
        if self.outcome is None or self.outcome.chosen is not None:
            return None
        return (
            f"none of {len(self.outcome.trials)} candidates corrects an error at a drop of at most "
            f"{100 * self.max_drop:g} points on the images that choose: try other layers, solvers or strengths, or "
            "allow a larger rewrite.max_drop"
        )

    @property
    def _has_choice(self) -> bool:
        return len(self.candidates) > 1

    def _images(self, trainer: Trainer, data: ImageDataModule) -> RewriteImages:
        """Return the sets of images that choose, and those that are reported."""
        return rewrite_images(
            whole_loader(trainer.test_dataloaders).dataset,
            data,
            self.rule,
            self.validation_rule,
            self.trial_rules,
            self.choose_on if self._has_choice else None,
            self.photographs,
            self.seed,
        )

    def _sites(
        self, network: nn.Module, data: ImageDataModule, progress: Progress
    ) -> dict[tuple[str, Route], RewriteSite]:
        """Collect second moments and exemplars at all layers."""
        moment = self._moments
        assert moment is not None, "they are chosen when the test starts"
        rule, (first, *_) = rule_images(self.rule, data), self.candidates.routes
        sites: dict[tuple[str, Route], RewriteSite] = {}
        for layer in self.candidates.layers:
            task = progress.add_task(f"second moment of {layer}", total=len(moment.drawn))
            site = RewriteSite(
                network,
                layer,
                rule,
                moment,
                first,
                self.keys,
                self.architecture,
                self.moment.regularised,
                lambda images, task=task: progress.advance(task, images),  # type: ignore[misc]
            )
            progress.remove_task(task)
            sites |= {(layer, route): site.by_route(route) for route in self.candidates.routes}
        return sites

    def _try_all(
        self, trainer: Trainer, network: nn.Module, bench: Workbench, images: RewriteImages, is_exemplar: Tensor
    ) -> list[RewriteTrial]:
        """Try all candidates, going on from an interrupted run; keep them in files as they come.

        Harm is counted on other images than the exemplars.
        """
        identity = self._identity(trainer, network, images)
        finished = [] if self.resume is None else read_trials(self.resume, identity)
        folder = run_folder(trainer)  # on every rank

        def keep(trials: Sequence[RewriteTrial]) -> None:
            if trainer.is_global_zero:
                write_trials(folder, identity, trials)

        dataset = whole_loader(trainer.test_dataloaders).dataset
        others = without_exemplars(images.choosing["others"], dataset, is_exemplar, self._exemplars)
        return bench.try_all(images.choosing | {"others": others}, finished, keep)

    def _are_exemplars(self, trainer: Trainer) -> Tensor:
        """Return which of all test images are exemplars, bool [N]; they were dealt out one by one.

        Where batches are limited, those that the test has not run are looked at here: they choose and are reported too.
        """
        shares = all_ranks(torch.cat(self._seen), trainer.world_size)
        loader = whole_loader(trainer.test_dataloaders)
        whole = torch.zeros(len(loader.dataset), dtype=torch.bool)  # type: ignore[arg-type]
        if sum(map(len, shares)) < len(whole):
            return torch.cat([self._exemplars(batch[0]) for batch in loader])
        for rank, share in enumerate(shares):
            whole[rank :: trainer.world_size] = share
        return whole

    def _identity(self, trainer: Trainer, network: nn.Module, images: RewriteImages) -> dict[str, Any]:
        """Return what the outcomes of candidates depend on."""
        assert self._moments is not None, "they are chosen when the test starts"
        return trials_identity(
            network,
            self.candidates,
            self.keys,
            self.architecture,
            self.moment.identity(self._moments),
            rule_images(self.rule, image_data(trainer, "a rewrite")),
            self._of_rules,
            images_identity(images.choosing["target"]),
            self.choose_on,
            images_identity(images.choosing["others"]),
            self.seed,
        )

    def _outcome(
        self,
        trials: list[RewriteTrial],
        rewrites: dict[str, MeasuredRewrite],
        best: RewriteTrial | None,
        bench: Workbench,
        images: RewriteImages,
        data: ImageDataModule,
    ) -> RewriteOutcome:
        """Return what came out, with the images that the figures show."""
        chosen = None if best is None else rewrites[best.solver]
        stages: list[str] = []
        heat_maps, changes = None, {}
        if chosen is not None:
            site = bench.site(chosen.trial.settings)
            stages = list(site.block.stages)
            if site.block.geometry is not None:  # the vectors that a linear layer reads have no place in an image
                heat_maps = shown_heat_maps(site, chosen.trial.settings.rank, images.reporting, data)
            changes = shown_changes(chosen, images.reporting, data)
        return RewriteOutcome(
            layers=self.candidates.layers,
            max_drop=self.max_drop,
            classes=list(data.classes),
            target=sorted(set(self.rule.labels(data.classes).tolist())),
            exemplars=shown_exemplars(self.rule),
            trials=trials,
            rewrites=rewrites,
            chosen=None if best is None else best.solver,
            stages=stages,
            heat_maps=heat_maps,
            changes=changes,
        )

    def _keep(self, trainer: Trainer, network: nn.Module, rewrite: MeasuredRewrite) -> None:
        """Write the rewrite as a patch, and the whole rewritten network."""
        rule, trial = self.rule.settings, rewrite.trial
        drawn = sorted({some["name"] for some in rule["stylizers"] or ()})
        new = rule["texture"] or rule["variants"] or " or ".join(drawn)
        others = OTHERS if OTHERS in rewrite.labels else "report"
        broken, number = len(rewrite.broken(others)), len(rewrite.labels[others])
        bound = upper_bound(broken, number, 0.95).item()
        record = EditRecord(
            [
                f"where {new} is seen, {trial.settings.layer} recalls "
                f"what is in the masks of {rule['masks']} ({len(self.rule)} exemplars)"
            ],
            {
                **trial.settings._asdict(),
                "solver": title_of(self.candidates.solver(trial.settings)),
                "strength": trial.strength,
            },
            f"{len(rewrite.labels['report'])} test images and what else the figures name",
            rewrite.values(),
            list(image_data(trainer, "a rewrite").classes),
            harm=Harm("broken", broken, number, bound, 0.95),
            config=config_of(trainer),
        )
        write_edit(trainer, network, self.params[trial.solver], record, PATCH, CHECKPOINT, self.command, self.kept_log)
