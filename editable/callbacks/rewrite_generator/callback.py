"""Rewrite a trained generator by a rule in a file, in the test of a run."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import nn

import editable.callbacks.rewrite_generator.report as report
from editable.callbacks.rewrite_generator.of_rewrite import outcome_of, write_rewritten
from editable.callbacks.rewrite_generator.outcome import GeneratorRewriteOutcome
from editable.callbacks.run.context import network_of, require_gradients, run_folder
from editable.callbacks.run.edit_loop import progress_bars
from editable.callbacks.run.subcommand import Subcommand
from editable.data import GeneratorRule, read_generator_rule
from editable.data.concepts.generator_rule import Regions
from editable.errors import UserError, require_at_least, require_finite, require_seed, require_within
from editable.models import LatentSampler, default_latents, generate
from editable.rewriting import Architecture, LayerBlock, Regularisation, Solver
from editable.rewriting.generators.generator_rewrite import MOMENT_SEED, UNSEEN_SEED, rewrite_generator
from editable.rewriting.keys.erase_problem import EraseRule
from editable.rewriting.keys.paste_problem import PasteRule
from editable.rewriting.keys.selections import Selection

__all__ = ["GeneratorRewriting", "rule_for"]


class GeneratorRewriting(Subcommand):
    """Rewrites one layer of a generator by a rule (Bau et al. 2020), in ``test``, and tells what that does.

    The generator is the task's network, as in :class:`~editable.tasks.GenerationTask`; it never changes, and
    ``test_frechet_distance`` is that of the unedited one. Logs what
    :func:`~editable.callbacks.generator_metrics` returns, leaves figures in the run's folder, and the
    rewritten generator as ``rewritten.safetensors``.

    Args:
        rule: The JSON file, see :func:`editable.data.read_generator_rule`.
        layer: Name of the convolution that is rewritten.
        solver: By default projected descent.
        rank: Number of directions of the keys' space along which a descent may change the weight.
        architecture: What a key is: a ``pixel`` of the layer's input, or a ``patch`` of it.
        regularisation: Of the second moment of the layer's keys.
        num_moment_images: Number of generated images that it is summed over.
        num_unseen_images: Number of images that the outcome is measured on.
        moment_seed: Of the latent vectors of the former.
        unseen_seed: Of those of the latter.
        quantile: The context matches where a response reaches this quantile of the unseen images' responses.
        image_range: Least and greatest value of a pixel of the generator.

    Attributes:
        outcome: What came out; none before the run.

    Raises:
        UserError: If the rule cannot be read or a number is out of its range; in ``test``, if the rule does not fit the
            generator, or there is no such layer.
    """

    command = "rewrite_generator"
    leaves = ("rewritten.safetensors",)
    summary, write = staticmethod(report.summary), staticmethod(report.write)

    def __init__(
        self,
        rule: str,
        layer: str,
        solver: Solver | None = None,
        rank: int = 1,
        architecture: Architecture = "pixel",
        regularisation: Regularisation | None = None,
        num_moment_images: int = 1000,
        num_unseen_images: int = 1000,
        moment_seed: int = MOMENT_SEED,
        unseen_seed: int = UNSEEN_SEED,
        quantile: float = 0.99,
        image_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        require_at_least(1, rank=rank, num_moment_images=num_moment_images, num_unseen_images=num_unseen_images)
        require_seed(moment_seed=moment_seed, unseen_seed=unseen_seed)
        require_within("(0, 1)", quantile=quantile)
        require_finite(image_range=image_range)
        if len(image_range) != 2 or not image_range[0] < image_range[1]:
            raise UserError(f"image_range must be the least and the greatest value of a pixel, got {image_range}")
        self.rule, self.layer = read_generator_rule(rule), layer
        self.image_range = image_range
        self._settings: dict[str, Any] = {
            "solver": solver,
            "rank": rank,
            "architecture": architecture,
            "regularisation": regularisation,
            "num_moment_images": num_moment_images,
            "num_unseen_images": num_unseen_images,
            "moment_seed": moment_seed,
            "unseen_seed": unseen_seed,
            "quantile": quantile,
        }
        self.outcome: GeneratorRewriteOutcome | None = None
        self._rule: PasteRule | EraseRule | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make the rewrite fail, before anything is computed."""
        require_gradients(trainer.test_loop.inference_mode, "a rewrite needs gradients")
        network = network_of(pl_module)
        LayerBlock(network, self.layer)
        self._rule = rule_for(network, self.rule, getattr(pl_module, "latents", None))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rewrite the generator, log what that does, and keep the rewritten one."""
        network = network_of(pl_module)
        latents = getattr(pl_module, "latents", None)
        assert self._rule is not None, "the test has started"
        with progress_bars(trainer) as bars:
            tasks: dict[str, Any] = {}

            def advance(task: str, done: int, total: int) -> None:
                if task not in tasks:
                    tasks[task] = bars.add_task(task, total=max(total, 1))
                bars.update(tasks[task], completed=done)

            rewrite = rewrite_generator(network, self.layer, self._rule, latents, progress=advance, **self._settings)
        self.outcome = outcome_of(rewrite, self._rule, self.image_range)
        pl_module.log_dict({f"rewrite_{name}": value for name, value in self.outcome.values().items()})
        folder = run_folder(trainer)  # on every rank
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            write_rewritten(rewrite, folder)


def rule_for(network: nn.Module, rule: GeneratorRule, latents: LatentSampler | None = None) -> PasteRule | EraseRule:
    """Turn a rule with numbers of images into one with latent vectors and masks.

    Args:
        network: The generator.
        rule: As it was read from a file.
        latents: Where latent vectors come from; by default standard normal ones of the generator's ``latent_size``.

    Raises:
        UserError: If a mask does not fit the generated images.
    """
    regions = (rule.copy, rule.paste, rule.context)
    sampler = default_latents(network) if latents is None else latents
    drawn = sampler(1 + max(max(part.latents) for part in regions if part), rule.seed)
    size = generate(network, drawn[:1]).shape[-2:]

    def select(part: Regions) -> Selection:
        return Selection(drawn[part.latents], part.masks((size[0], size[1])))

    if rule.channels is not None:
        return EraseRule(select(rule.context), rule.channels)
    return PasteRule(select(rule.copy), select(rule.paste), select(rule.context))
