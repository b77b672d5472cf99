"""See what a rewrite has changed: trace the values of a layer back to keys, features and images, before and after."""

from pathlib import Path
from typing import Literal, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from rich.progress import Progress, TaskID
from rich.table import Table
from torch import Tensor, nn

from editable.callbacks.run.context import image_data, network_of, require_gradients
from editable.callbacks.run.edit_loop import progress_bars
from editable.callbacks.run.subcommand import Subcommand
from editable.callbacks.see.report import SeeingReport
from editable.callbacks.see.weights import read_edited_weight, takes_part
from editable.callbacks.site.sets import check_rules, moment_dataset, rule_images
from editable.callbacks.site.site import MomentImages, RewriteSite
from editable.data import ImageDataModule, RewriteRule
from editable.errors import UserError, require_at_least
from editable.rewriting import Architecture, ClosedForm, ContextMatches, LayerBlock, Regularisation, Solver
from editable.rewriting.inverse.perceptual_distance import Perceptual, PerceptualDistance, perceptual_distance
from editable.rewriting.inverse.reconstruction import ReconstructionSettings
from editable.rewriting.inverse.trace_back import TraceBack, Traced
from editable.rewriting.keys.context_matching import match_context
from editable.rewriting.keys.problem import RewriteProblem

__all__ = ["Seeing", "Seen"]


class Seen(NamedTuple):
    """All that was looked at.

    Attributes:
        problem: The rule at the layer.
        weight: The rewritten weight.
        trace: What traced values back.
        stages: What they were traced back to, by stage: ``keys``, ``features``, ``images``.
        distance: Of images.
        matches: Responses ⟨D, k⟩ of the keys of originals and of manipulated exemplars; none of a linear layer.
    """

    problem: RewriteProblem
    weight: Tensor
    trace: TraceBack
    stages: dict[str, Traced]
    distance: PerceptualDistance
    matches: ContextMatches | None

    @torch.no_grad()
    def values(self) -> dict[str, float]:
        """Return what is logged, of the originals' values."""
        problem, names = self.problem, {"before": "_before", "after": ""}
        change = (self.weight.double() - problem.weight.double()).norm() / problem.weight.double().norm()
        responses = [(problem.directions.T @ keys).norm() for keys in (problem.target_keys, problem.keys)]
        values = {
            "num_exemplars": self.stages["images"].before.losses.shape[1] // 2,
            "relative_norm": float(change),
            "loss_before": float(problem.loss(problem.weight)),
            "loss": float(problem.loss(self.weight)),
            "response_ratio": float(responses[0] / responses[1]),
        }
        for stage, traced in self.stages.items():
            measure = self.distance.name if stage == "images" else "similarity"
            for when, found in zip(names, traced.of("original"), strict=True):
                values[f"{stage}_loss_ratio{names[when]}"] = float(found.loss_ratios.log().mean().exp())
                for name, watched in found.watched.items():
                    values[f"{stage}_{name}_{measure}{names[when]}"] = float(watched[-1].mean())
        return values


class Seeing(Subcommand):
    """Shows what a rewrite of one layer has changed, by tracing the layer's values back to what they may come from.

    In ``test``: takes a rewritten weight from a file, or makes it by a solver; and finds, by descent from random
    starts, for the values that the rule's exemplars give at the layer: the keys that recall them, the features before
    the layer, and the images (Elango 2021, ch. 3). All of it before and after the rewrite, for originals and for
    manipulated exemplars, with curves of how near it comes to each. Besides, maps of the features before and after,
    and of where the keys respond to the rule's directions. The tested network itself never changes.

    A rule that works makes the values of the original come from what the manipulated exemplar shows: before the edit
    what is found is nearer to the original, after it to the manipulated exemplar.

    Logs, with ``see_`` before the name, what docs/metrics.md lists, leaves ``seeing.csv`` with all curves, and figures.

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
        regularisation: Of the second moment; by default 1e-4 of its mean eigenvalue is added to each.
        moment_split: Images for the second moment: unaugmented ``train``, ``val`` or ``test`` images.
        num_moment_images: Largest number of images for the second moment, drawn by seed.
        moment_positions: Number of positions of each image, drawn by seed; null takes all.
        cache: Folder for second moments, which are used again for the same network, layer and images; null keeps none.
        num_exemplars: Largest number of exemplars whose features and images are traced back, the first ones.
        key_descent: How keys are looked for; the learning rate is relative to the start.
        feature_descent: How features are looked for; the learning rate is relative to their root mean square.
        image_descent: How images are looked for.
        total_variation: Weight of the images' total variation for each pixel.
        perceptual: Distance of images: LPIPS with ``alex``, ``vgg`` or ``squeeze``, whose weights are downloaded once;
            ``standin``, the same formula on the network's own features; ``auto``: LPIPS with alex if it can be had.
        perceptual_layers: Layers of the stand-in; by default the last child of the network for each size of map.
        seed: Of the images for the second moment.

    Attributes:
        seen: What was looked at; none before the run.

    Raises:
        UserError: If a number is out of its range; when it runs, if layer, rule, weights or images do not fit the
            network.
    """

    def __init__(
        self,
        rule: RewriteRule,
        layer: str,
        edited: str | None = None,
        solver: Solver | None = None,
        rank: int = 1,
        strength: float = 1.0,
        values: Literal["unedited", "own"] = "unedited",
        route: Literal["images", "features"] = "images",
        keys: Literal["rule", "exemplar"] = "rule",
        architecture: Architecture = "pixel",
        regularisation: Regularisation | None = None,
        moment_split: Literal["train", "val", "test"] = "train",
        num_moment_images: int = 1000,
        moment_positions: int | None = None,
        cache: str | None = "runs/second_moments",
        num_exemplars: int = 8,
        key_descent: ReconstructionSettings | None = None,
        feature_descent: ReconstructionSettings | None = None,
        image_descent: ReconstructionSettings | None = None,
        total_variation: float = 0.0,
        perceptual: Perceptual = "auto",
        perceptual_layers: list[str] | None = None,
        seed: int = 0,
    ) -> None:
        if edited is not None and solver is not None:
            raise UserError("see.edited is a rewritten network, and see.solver would make another: give one of them")
        require_at_least(1, rank=rank, num_moment_images=num_moment_images, num_exemplars=num_exemplars)
        require_at_least(0, seed=seed)
        if not total_variation >= 0:
            raise UserError(f"see.total_variation must not be negative, got {total_variation}")
        self.rule, self.layer, self.edited = rule, layer, edited
        self.solver = ClosedForm() if solver is None else solver
        self.rank, self.strength, self.traced_values = rank, strength, values
        self.route, self.keys, self.architecture = route, keys, architecture
        self.regularisation = regularisation or Regularisation(epsilon=1e-4)
        self.moment_split, self.num_moment_images = moment_split, num_moment_images
        self.moment_positions, self.cache, self.seed = moment_positions, cache, seed
        self.num_exemplars, self.total_variation = num_exemplars, total_variation
        self.descents = {
            "keys": key_descent or ReconstructionSettings(),
            "features": feature_descent or ReconstructionSettings(),
            "images": image_descent or ReconstructionSettings(),
        }
        self.perceptual, self.perceptual_layers = perceptual, perceptual_layers
        self.seen: Seen | None = None
        self._distance: PerceptualDistance | None = None
        self._report: SeeingReport | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make the run fail, before anything is computed."""
        require_gradients(trainer.test_loop.inference_mode, "tracing values back needs gradients")
        data = image_data(trainer, "seeing a rewrite")
        block = LayerBlock(network_of(pl_module), self.layer)
        if self.edited is not None:
            read_edited_weight(block, self.edited)
        check_rules([self.rule], data)
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
            weight = self._rewritten(problem)
            self.seen = self._look(problem, weight, data, progress)
        self._report = SeeingReport(self, self.seen, data)
        pl_module.log_dict({f"see_{name}": value for name, value in self.seen.values().items()})

    def report(self, trainer: Trainer, folder: Path) -> list[str]:
        """Write curves and figures; return the report's sections in Markdown."""
        return [] if self._report is None else self._report.write(folder)

    def table(self) -> Table:
        """Return what values were traced back to as a table for the terminal."""
        assert self._report is not None, "there is a table once the run is over"
        return self._report.table()

    def _site(self, trainer: Trainer, network: nn.Module, data: ImageDataModule, progress: Progress) -> RewriteSite:
        moment = MomentImages.of_run(
            trainer,
            moment_dataset(self.moment_split, data),
            self.num_moment_images,
            self.moment_positions,
            self.seed,
            self.cache,
        )
        task = progress.add_task(f"second moment of {self.layer}", total=len(moment.drawn))
        site = RewriteSite(
            network,
            self.layer,
            rule_images(self.rule, data),
            moment,
            self.route,
            self.keys,
            self.architecture,
            self.regularisation,
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

    def _look(self, problem: RewriteProblem, weight: Tensor, data: ImageDataModule, progress: Progress) -> Seen:
        rule, normalise = self.rule, data.normalisation
        distance = self._distance
        assert distance is not None, "it is made when the test starts"
        trace = TraceBack(problem, weight, self.traced_values, self.num_exemplars)
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
                    rule.originals,
                    rule.manipulated,
                    settings,
                    distance.distance,
                    normalise,
                    self.total_variation,
                    advance,
                )
            progress.remove_task(task)
        matches = None
        if problem.block.geometry is not None:
            some = slice(self.num_exemplars)
            shown = [normalise(images[some]).to(problem.weight) for images in (rule.originals, rule.manipulated)]
            matches = match_context(problem.block, problem.memory, problem.directions, shown, (), problem.keys)
        return Seen(problem, weight, trace, stages, distance, matches)
