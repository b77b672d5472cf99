"""See what a rewrite has changed: trace the values of a layer back to keys, features and images, before and after."""

from typing import Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from rich.progress import Progress, TaskID
from torch import Tensor, nn

import editable.callbacks.see.report as report
from editable.callbacks.run.context import image_data, network_of, require_gradients
from editable.callbacks.run.edit_loop import progress_bars
from editable.callbacks.run.replaced_examples import ReplacedExamples
from editable.callbacks.run.subcommand import Subcommand
from editable.callbacks.see.maps import exemplar_maps
from editable.callbacks.see.outcome import SeeingOutcome, SeenRewrite
from editable.callbacks.see.weights import read_edited_weight, takes_part
from editable.callbacks.site.moment import MomentSettings
from editable.callbacks.site.rule_images import check_rules, rule_images
from editable.callbacks.site.site import KeysOf, RewriteSite, Route
from editable.data import ImageDataModule, RewriteRule
from editable.errors import UserError, require_at_least, require_choice, require_finite, require_not_negative
from editable.rewriting import Architecture, ClosedForm, LayerBlock, RewriteProblem, Solver
from editable.rewriting.inverse.inversion import num_open_dimensions
from editable.rewriting.inverse.perceptual_distance import Perceptual, PerceptualDistance, perceptual_distance
from editable.rewriting.inverse.reconstruction import ReconstructionSettings
from editable.rewriting.inverse.trace_back import TraceBack, Traced

__all__ = ["Seeing"]

MOMENT = MomentSettings(num_images=1000, cache="runs/second_moments")


class Seeing(Subcommand):
    """Shows what a rewrite of one layer has changed, by tracing the layer's values back to what they may come from.

    In ``test``: takes a rewritten weight from a file, or makes it by a solver; and finds, by descent from random
    starts, for the values that the rule's exemplars give at the layer: the keys that recall them, the features before
    the layer, and the images (Elango 2021, ch. 3). All of it before and after the rewrite, for originals and for
    manipulated exemplars, with curves of how near it comes to each. Besides, maps of the features before and after,
    and of where the keys respond to the rule's directions. The tested network itself never changes.

    A rule that works makes the values of the original come from what the manipulated exemplar shows: before the edit
    what is found is nearer to the original, after it to the manipulated exemplar.

    Logs, with ``see_`` before the name, what docs/metrics.md lists, leaves ``seeing.csv`` with all curves, figures, and
    ``see_outcome.pt``.

    Args:
        rule: Exemplars of the new concept in the place of the one that it shall be taken for.
        layer: Name of the rewritten layer.
        edited: Weights of the rewritten network, a ``.safetensors`` file or a checkpoint, such as the
            ``rewritten.ckpt`` of a rewrite. They may differ from the tested network's at the layer, and behind its
            block, which is not looked at.
        solver: What makes the rewrite where no file is given; by default the closed form.
        rank: Number of directions that the solver is given.
        strength: Scale on the solver's update.
        values: Whose values are traced back: those of the ``unedited`` network, which the rule is about, or each
            network's ``own``.
        route: Keys of manipulated ``images``, or ``features`` of the texture put on the concept's positions.
        keys: One mean key for the whole ``rule``, or one for each ``exemplar``.
        architecture: Keys are a ``pixel`` of the layer's input each, or a ``patch`` of it.
        moment: The images for the second moment, and how it is regularised.
        num_exemplars: Largest number of exemplars whose features and images are traced back, the first ones.
        key_descent: How keys are looked for; the learning rate is relative to the start.
        feature_descent: How features are looked for; the learning rate is relative to their root mean square.
        image_descent: How images are looked for.
        total_variation: Weight of the images' total variation for each pixel.
        perceptual: Distance of images: LPIPS with ``alex``, ``vgg`` or ``squeeze``, whose weights are downloaded once;
            ``standin``, the same formula on the network's own features; ``auto``: LPIPS with alex if it can be had.
        perceptual_layers: Layers of the stand-in; by default the last child of the network for each size of map.

    Attributes:
        outcome: What was looked at, with the rewritten weight and all that values were traced back to, see
            :class:`~editable.callbacks.see.outcome.SeeingOutcome`; none before the run.

    Raises:
        UserError: If a number is out of its range; when it runs, if layer, rule, weights or images do not fit the
            network.
    """

    command = "see"
    summary, write = staticmethod(report.summary), staticmethod(report.write)

    def __init__(
        self,
        rule: RewriteRule,
        layer: str,
        edited: str | None = None,
        solver: Solver | None = None,
        rank: int = 1,
        strength: float = 1.0,
        values: Literal["unedited", "own"] = "unedited",
        route: Route = "images",
        keys: KeysOf = "rule",
        architecture: Architecture = "pixel",
        moment: MomentSettings = MOMENT,
        num_exemplars: int = 8,
        key_descent: ReconstructionSettings | None = None,
        feature_descent: ReconstructionSettings | None = None,
        image_descent: ReconstructionSettings | None = None,
        total_variation: float = 0.0,
        perceptual: Perceptual = "auto",
        perceptual_layers: list[str] | None = None,
    ) -> None:
        if edited is not None and solver is not None:
            raise UserError("see.edited is a rewritten network, and see.solver would make another: give one of them")
        require_at_least(1, rank=rank, num_exemplars=num_exemplars)
        require_finite(strength=strength)
        require_choice(Route, **{"see.route": route})
        require_choice(KeysOf, **{"see.keys": keys})
        require_not_negative(total_variation=total_variation)
        self.rule, self.layer, self.edited = rule, layer, edited
        self.solver = ClosedForm() if solver is None else solver
        self.rank, self.strength, self.traced_values = rank, strength, values
        self.route, self.keys, self.architecture = route, keys, architecture
        self.moment = moment
        self.num_exemplars, self.total_variation = num_exemplars, total_variation
        self.descents = {
            "keys": key_descent or ReconstructionSettings(),
            "features": feature_descent or ReconstructionSettings(),
            "images": image_descent or ReconstructionSettings(),
        }
        self.perceptual, self.perceptual_layers = perceptual, perceptual_layers
        self.outcome: SeeingOutcome | None = None
        self._distance: PerceptualDistance | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make the run fail, before anything is computed."""
        require_gradients(trainer.test_loop.inference_mode, "tracing values back needs gradients")
        data = image_data(trainer, "seeing a rewrite")
        block = LayerBlock(network_of(pl_module), self.layer)
        if self.edited is not None:
            read_edited_weight(block, self.edited)
        check_rules([self.rule], data)
        self.moment.images(trainer)
        self._distance = perceptual_distance(
            self.perceptual, block.network, data.image_shape, data.normalisation, self.perceptual_layers
        )

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rewrite the layer, or take the rewritten one, and trace values back."""
        data = image_data(trainer, "seeing a rewrite")
        network = network_of(pl_module)
        with progress_bars(trainer) as progress:
            site = self._site(trainer, network, data, progress)
            problem = site.problem(self.rank, self.edited is None and self.solver.uses_references)
            self.outcome = self._look(problem, self._rewritten(problem), data, progress)
        pl_module.log_dict({f"see_{name}": value for name, value in self.outcome.values().items()})

    def _site(self, trainer: Trainer, network: nn.Module, data: ImageDataModule, progress: Progress) -> RewriteSite:
        moment = self.moment.images(trainer)
        task = progress.add_task(f"second moment of {self.layer}", total=len(moment.drawn))
        site = RewriteSite(
            network,
            self.layer,
            rule_images(self.rule, data),
            moment,
            self.route,
            self.keys,
            self.architecture,
            self.moment.regularised,
            lambda images: progress.advance(task, images),
        )
        progress.remove_task(task)
        return site

    def _rewritten(self, problem: RewriteProblem) -> Tensor:
        block = problem.block
        if self.edited is not None:
            return read_edited_weight(block, self.edited)
        params = self.solver(problem).scaled(block.network, self.strength)
        others = [name for name in params if takes_part(block, name)]
        if others:
            raise UserError(
                f"{type(self.solver).__name__} changes {len(others)} other parameters that '{block.layer}' depends on, "
                f"such as '{others[0]}': take a solver that changes the layer alone"
            )
        return params.get(block.weight_name, problem.weight)

    def _look(
        self, problem: RewriteProblem, weight: Tensor, data: ImageDataModule, progress: Progress
    ) -> SeeingOutcome:
        rule, some, distance = self.rule, slice(self.num_exemplars), self._distance
        assert distance is not None, "it is made when the test starts"
        names = [name.rpartition("/")[2] for name in rule.names[some]]
        exemplars = ReplacedExamples(rule.originals[some], rule.manipulated[some], rule.masks[some], names)
        trace = TraceBack(problem, weight, self.traced_values, self.num_exemplars)
        stages = self._trace(trace, distance, data, progress)
        maps = None
        if problem.block.geometry is not None:
            shown = (exemplars.originals, exemplars.manipulated)
            images = [data.normalisation(kind).to(problem.weight) for kind in shown]
            maps = exemplar_maps(problem, weight, trace, stages["features"], images)
        return SeeingOutcome(
            self._seen_rewrite(problem, weight),
            exemplars,
            self.traced_values,
            {stage: traced.cpu() for stage, traced in stages.items()},
            distance.name,
            distance.description,
            maps,
        )

    def _trace(
        self, trace: TraceBack, distance: PerceptualDistance, data: ImageDataModule, progress: Progress
    ) -> dict[str, Traced]:
        """Return what values are traced back to, by stage."""
        stages: dict[str, Traced] = {}
        for stage, settings in self.descents.items():
            task = progress.add_task(f"tracing back to {stage}", total=2 * settings.num_steps)

            def advance(steps: int, task: TaskID = task) -> None:
                progress.advance(task, steps)

            if stage == "keys":
                stages[stage] = trace.keys(settings, advance)
            elif stage == "features":
                stages[stage] = trace.features(settings, advance)
            else:
                stages[stage] = trace.images(
                    self.rule.originals,
                    self.rule.manipulated,
                    settings,
                    distance.distance,
                    data.normalisation,
                    self.total_variation,
                    advance,
                )
            progress.remove_task(task)
        return stages

    @torch.no_grad()
    def _seen_rewrite(self, problem: RewriteProblem, weight: Tensor) -> SeenRewrite:
        before, after = problem.weight.double(), weight.double()
        return SeenRewrite(
            layer=problem.block.layer,
            block=list(problem.block.stages),
            edited=self.edited,
            solver=type(self.solver).__name__,
            strength=self.strength,
            weight=weight.detach().cpu(),
            relative_norm=float((after - before).norm() / before.norm()),
            loss_before=float(problem.loss(problem.weight)),
            loss=float(problem.loss(weight)),
            target_keys=problem.target_keys.cpu(),
            keys=problem.keys.cpu(),
            directions=problem.directions.cpu(),
            num_open_dimensions=num_open_dimensions(problem.matrix),
            condition_before=float(torch.linalg.cond(problem.matrix)),
            condition=float(torch.linalg.cond(problem.memory.matrix(after))),
        )
