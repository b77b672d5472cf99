"""Rules from a few labelled photographs of a new concept, tested on photographs of classes that made nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from rich.progress import Progress
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset

import editable.callbacks.few_shot.report as report
from editable.callbacks.few_shot.lots import Lot, lots
from editable.callbacks.few_shot.outcome import FewShotOutcome, FewShotTrial, KeptRule
from editable.callbacks.few_shot.unfinished import KEPT, UnfinishedRules, read_rules
from editable.callbacks.few_shot.ways import EditorWay, KnownImages, RewritingWay, Way
from editable.callbacks.few_shot.workbench import Workbench
from editable.callbacks.run.context import image_data, network_of, optional_path, require_gradients, run_folder
from editable.callbacks.run.edit_loop import progress_bars, whole_loader
from editable.callbacks.run.image_identity import images_identity
from editable.callbacks.run.kept_edit import config_of, put_edited, write_edit
from editable.callbacks.run.read_ahead import read_all
from editable.callbacks.run.subcommand import Subcommand
from editable.callbacks.run.titles import title_of
from editable.callbacks.site.moment import MomentImages, MomentSettings
from editable.callbacks.site.rule_images import check_rules
from editable.callbacks.site.sets import halves
from editable.data import ImageDataModule, RewriteRule, labelled_folder
from editable.data.images.images import ImageFiles
from editable.data.images.same_images import SameImages
from editable.editing import BaseEditor, EditRecord, Harm
from editable.errors import (
    UserError,
    require_at_least,
    require_finite,
    require_once,
    require_positive,
    require_seed,
    require_within,
)
from editable.models import fingerprint
from editable.models.added.classifier import find_classifier
from editable.models.machine.devices import budget_in_bytes
from editable.rewriting import LayerBlock

__all__ = ["FewShotRules"]

MOMENT = MomentSettings(split="test")
WHAT, EDITED = "few_shot", "an editor of labelled photographs"
PATCH, CHECKPOINT = "few_shot.safetensors", "few_shot.ckpt"


class FewShotRules(Subcommand):
    """Makes rules from a few labelled photographs of a new concept, and tests each on a class that made nothing.

    In ``test``: each class of photographs is left out in turn; some photographs of each other class, drawn by seed,
    make a rule, by every way that is asked for; and all photographs of the class left out test it. The strength of a
    rule is chosen by the other classes alone, each left out in turn once more, by the makers, and by half of the test
    images; the other half is reported. Test images that are photographs do neither, and known ones are not reported.
    The tested network itself never changes.

    The way of the best row then makes a rule from all photographs of all classes, which is kept if it corrects any of
    them within the drop: as ``few_shot.safetensors``, a patch for the tested weights (``--patches`` of other
    subcommands), and ``few_shot.ckpt``, the whole network with it.

    A way is a rewrite of one or several layers in closed form (:func:`~editable.rewriting.labelled_key`), or an editor
    that gives the photographs their labels.

    Logs of the best row, that of most corrected errors at a mean drop of at most ``max_drop``:
    ``few_shot_errors_before``, ``few_shot_errors``, ``few_shot_errors_corrected``, ``few_shot_drop`` and
    ``few_shot_bound``; ``few_shot_num_rules`` and ``few_shot_num_report_images``; of the rule that is kept
    ``few_shot_kept_strength``, ``few_shot_kept_drop`` and ``few_shot_kept_bound``. Leaves ``few_shot.csv`` with all
    rows, ``few_shot_rules.csv`` with all rules, and a figure.

    Args:
        photographs: Folder of labelled photographs of the new concept, ``<class>/<image>``, of two classes or more.
        known: Images of what it shall be taken for, of other classes: originals and masks of a rule's exemplars.
        layers: What is rewritten: a list of groups of layers; those of a group share the change. By default the layer
            that gives the logits.
        editors: Editors of the layer that gives the logits, to compare with.
        shots: Numbers of photographs of each class that make a rule; null for all there are.
        draws: How often photographs are drawn, for each number of them.
        strengths: Scales of the change to choose from, θ₀ + s·Δθ; a single one is taken as it is.
        max_drop: Largest drop in accuracy on the images that choose, a fraction.
        keep_labels: In the layer that gives the logits, leave the makers' own classes as they are; without it a rule
            makes them less likely.
        moment: The images for second moments, and how these are regularised; ``test`` stands for the half that chooses.
        memory_budget: In GiB, for features of images; by default half of what a CUDA device has left, 4 elsewhere.
        seed: Of the halves of the test images; draw number d of the photographs has seed + d.
        resume: Folder of a study that was interrupted: the rules that it has tested are taken over. Network,
            photographs and images, those of second moments too, must be the same.
        log: Folder of the log of corrections, to which a rule that is kept adds a line: by default ``corrections``
            beside the runs (docs/patch-format.md); ``false`` for none.

    Attributes:
        outcome: Once it has run: all rules, and a row for each way and number of photographs.
        params: The changed parameters of the rule that is kept, by name; empty where there is none.

    Raises:
        UserError: If a number is out of its range; when it runs, if layers, editors or images do not fit.
    """

    command, kept = "few_shot", KEPT
    leaves = (KEPT, PATCH, CHECKPOINT, "few_shot.csv", "few_shot_rules.csv")
    summary, write = staticmethod(report.summary), staticmethod(report.write)

    def __init__(
        self,
        photographs: str,
        known: RewriteRule,
        layers: list[list[str]] | None = None,
        editors: list[BaseEditor] | None = None,
        shots: list[int | None] | None = None,
        draws: int = 5,
        strengths: list[float] | None = None,
        max_drop: float = 0.0025,
        keep_labels: bool = True,
        moment: MomentSettings = MOMENT,
        memory_budget: float | None = None,
        seed: int = 0,
        resume: str | None = None,
        log: bool | str = True,
    ) -> None:
        self.photographs, self.known = photographs, known
        self.layers, self.editors = layers, editors or []
        self.shots = [1, 3, 5, None] if shots is None else shots
        self.strengths = [0.5, 1.0, 1.5, 2.0, 3.0] if strengths is None else strengths
        for name, some in (("shots", self.shots), ("strengths", self.strengths)):
            if not some or len(set(some)) < len(some):
                raise UserError(f"few_shot.{name} is {some}, but must be different numbers, at least one of them")
        for group in layers or []:
            if not group or len(set(group)) < len(group):
                raise UserError(f"few_shot.layers has the group {group}: name each layer once, and at least one")
        titles = [title_of(editor) for editor in self.editors]
        groups = [" + ".join(sorted(group)) for group in layers or []]
        require_once(**{"few_shot.layers": groups, "few_shot.editors": titles})
        for editor, title in zip(self.editors, titles, strict=True):
            if editor.own_layers is not None:
                raise UserError(f"few_shot.editors has {title}, which brings layers of its own: name one that does not")
        if layers == [] and not self.editors:
            raise UserError("few_shot.layers is empty and there are no editors: name at least one way to make a rule")
        require_at_least(1, **{"few_shot.shots": [number for number in self.shots if number is not None]})
        require_at_least(1, draws=draws)
        require_finite(**{"few_shot.strengths": self.strengths})
        require_within("[-1, 1]", max_drop=max_drop)
        require_positive(memory_budget=memory_budget)
        require_seed(seed=seed)
        self.draws, self.max_drop, self.keep_labels = draws, max_drop, keep_labels
        self.moment, self.memory_budget, self.seed = moment, memory_budget, seed
        self.resume, self.kept_log = optional_path(resume), log
        self.outcome: FewShotOutcome | None = None
        self.params: dict[str, Tensor] = {}
        self._photographs: ImageFiles | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make the study fail, before anything is computed."""
        require_gradients(trainer.test_loop.inference_mode, "an edit needs gradients")
        data, network = image_data(trainer, WHAT), network_of(pl_module)
        for layer in {name for group in self._groups(network) for name in group}:
            LayerBlock(network, layer)
        if self.editors:
            find_classifier(network, EDITED)
        check_rules([self.known], data)
        self._photographs = labelled_folder(self.photographs, data.classes)
        labels = torch.as_tensor(self._photographs.labels)
        classes = labels.unique().tolist()
        if len(classes) < 2 or (len(classes) < 3 and len(self.strengths) > 1):
            raise UserError(
                f"'{self.photographs}' has photographs of {len(classes)} classes, but one is left out to test a rule, "
                "and one more where a strength is chosen: give three classes, or two and a single strength"
            )
        if not set(self.known.labels(data.classes).tolist()) - set(classes):
            raise UserError("few_shot.known shows only classes of the photographs: give images of other classes")
        read_all(data.evaluated(self._photographs), data, "photograph")
        self.moment.images(trainer, self._halves(trainer)[0])
        if self.resume is not None:
            read_rules(self.resume, {})

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make and test all rules."""
        network, data = network_of(pl_module), image_data(trainer, WHAT)
        assert self._photographs is not None, "they are looked up when the test starts"
        photographs = data.evaluated(self._photographs)
        images = torch.stack([torch.as_tensor(photographs[place][0]) for place in range(len(self._photographs))])
        labels = torch.as_tensor(self._photographs.labels)
        normalised = data.normalisation(self.known.originals)
        known = KnownImages(normalised, self.known.masks, self.known.labels(data.classes))
        choosing, reported = self._halves(trainer)
        others = {
            "choose": _without(choosing, images, "choose by"),
            "report": _without(reported, torch.cat([known.images, images]), "report on"),
        }
        moment = self.moment.images(trainer, choosing)
        identity = self._identity(network, photographs, labels, known, others, moment)
        finished = [] if self.resume is None else read_rules(self.resume, identity)
        unfinished = UnfinishedRules(run_folder(trainer), identity, finished)
        budget = budget_in_bytes(pl_module.device, self.memory_budget)
        trials: list[FewShotTrial] = []
        whole: dict[str, tuple[KeptRule, dict[str, Tensor]] | None] = {}
        with progress_bars(trainer) as progress:
            for way in self._ways(network, data, images, labels, known, others["choose"], moment, progress):
                bench = Workbench(
                    network,
                    way,
                    TensorDataset(images, labels),
                    others,
                    self.strengths,
                    self.max_drop,
                    data.batch_size,
                    budget,
                )
                trials += self._tested(bench, labels, way.label, unfinished, trainer.is_global_zero, progress)
                whole[way.label] = bench.keep(Lot.whole(labels))
                bench.close()
        self.outcome = FewShotOutcome(
            trials, list(data.classes), sorted(self.strengths), self.max_drop, len(known.labels)
        )
        if (best := whole[self.outcome.best.way]) is not None:
            rule, self.params = best
            self.outcome = replace(self.outcome, kept=rule)
            self._keep(trainer, network, rule, self.outcome)
        pl_module.log_dict({f"few_shot_{name}": value for name, value in self.outcome.values().items()})

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the rule's parameters in place of the network's own, in the checkpoint alone."""
        if self.params:
            put_edited(checkpoint, network_of(pl_module), self.params)

    def _keep(self, trainer: Trainer, network: nn.Module, rule: KeptRule, outcome: FewShotOutcome) -> None:
        """Write the rule as a patch, and the whole network with it."""
        record = EditRecord(
            [
                f"what the photographs in {self.photographs} have in common ({rule.makers.num_images} of them) recalls "
                f"what is in the masks of {self.known.settings['masks']} ({outcome.num_known} images)"
            ],
            {"solver": "labelled photographs", "way": rule.way, "strength": rule.strength},
            f"{rule.others.num_images} test images that chose nothing, and the photographs",
            outcome.values(),
            outcome.classes,
            harm=Harm("broken", rule.broken, rule.others.num_images, rule.bound(outcome.level), outcome.level),
            config=config_of(trainer),
        )
        write_edit(trainer, network, self.params, record, PATCH, CHECKPOINT, self.command, self.kept_log)

    def _groups(self, network: nn.Module) -> list[list[str]]:
        return [[find_classifier(network, "a rule")[0]]] if self.layers is None else self.layers

    def _halves(self, trainer: Trainer) -> tuple[Subset, Subset]:
        return halves(whole_loader(trainer.test_dataloaders).dataset, self.seed)

    def _ways(
        self,
        network: nn.Module,
        data: ImageDataModule,
        images: Tensor,
        labels: Tensor,
        known: KnownImages,
        choosing: Dataset,
        moment: MomentImages,
        progress: Progress,
    ) -> Iterator[Way]:
        """Yield each way, made ready."""
        for group in self._groups(network):
            task = progress.add_task(f"second moments of {', '.join(group)}", total=len(group) * len(moment.drawn))
            yield RewritingWay(
                network,
                group,
                images,
                labels,
                known,
                moment,
                self.moment.regularised,
                self.keep_labels,
                data.batch_size,
                lambda done, task=task: progress.advance(task, done),  # type: ignore[misc]
            )
            progress.remove_task(task)
        for editor in self.editors:
            layer, _ = find_classifier(network, EDITED)
            yield EditorWay(network, layer, editor, images, labels, choosing, data.batch_size)

    def _tested(
        self, bench: Workbench, labels: Tensor, label: str, unfinished: UnfinishedRules, keep: bool, progress: Progress
    ) -> list[FewShotTrial]:
        asked = list(lots(labels, self.shots, self.draws, self.seed))
        task = progress.add_task(label, total=len(asked))
        trials = []
        for lot in asked:
            trial = unfinished.of(label, lot)
            if trial is None:
                trial = bench.test(lot)
                if keep:
                    unfinished.keep(trial)
            trials.append(trial)
            progress.advance(task)
        return trials

    def _identity(
        self,
        network: nn.Module,
        photographs: Dataset,
        labels: Tensor,
        known: KnownImages,
        others: Mapping[str, Subset],
        moment: MomentImages,
    ) -> dict[str, Any]:
        """Return what a rule depends on besides its way and its photographs, as JSON holds it."""
        return {
            "weights": fingerprint(network.state_dict()),
            "photographs": images_identity(photographs),
            "labels": fingerprint({"labels": labels}),
            "known": fingerprint(known._asdict()),
            **{name: images_identity(images) for name, images in others.items()},
            **self.moment.identity(moment),
            "editors": [editor.description() for editor in self.editors],
            "strengths": sorted(self.strengths),
            "max_drop": self.max_drop,
            "keep_labels": self.keep_labels,
            "seed": self.seed,
        }


def _without(images: Subset, others: Tensor, what: str) -> Subset:
    """Return test images without those that are the same as others, which rules are made of.

    Raises:
        UserError: If none is left for what they are for.
    """
    kept = [images.indices[place] for place in SameImages(others).others(images)]
    if not kept:
        raise UserError(f"no test image is left to {what}: there are too few besides photographs and known images")
    return Subset(images.dataset, kept)
