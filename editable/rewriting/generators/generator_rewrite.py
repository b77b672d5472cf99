"""Rewrite a layer of a generator by a rule, and measure it on images that it has not seen."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from editable.errors import UserError, require_at_least, require_seed, require_within
from editable.models import LatentSampler, default_latents, evaluation_mode, generate
from editable.rewriting.generators.generator_outcome import GeneratorOutcome, MatchedContext, measure_generator
from editable.rewriting.keys.context_keys import resize_mask
from editable.rewriting.keys.erase_problem import EraseRule, erase_problem
from editable.rewriting.keys.paste_problem import PasteRule, paste_problem
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.keys.selections import Selection
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.inverse_moment import InverseMoment, Regularisation
from editable.rewriting.memory.memory import Architecture, make_memory
from editable.rewriting.memory.moment_collection import collect_second_moment
from editable.rewriting.memory.second_moment import SecondMoment
from editable.rewriting.solvers.base import Solver
from editable.rewriting.solvers.projected_descent import ProjectedDescent
from editable.rewriting.solvers.result import RewriteResult

__all__ = ["MOMENT_SEED", "UNSEEN_SEED", "GeneratorRewrite", "render", "rewrite_generator"]

MOMENT_SEED = 1_000_003
"""Of the latent vectors that the second moment is summed over, by default; a rule has small seeds of its own."""

UNSEEN_SEED = 2_000_003
"""Of the latent vectors that a rewrite is measured on, by default."""

BATCH = 100


class GeneratorRewrite(NamedTuple):
    """A rewrite of a generator, and what it came to.

    Attributes:
        problem: What was asked for, at the layer.
        result: What the solver returned; ``result.params`` are the changed parameters.
        outcome: Measured on unseen latent vectors.
        context: Where the context matches in their images.
        latents: The unseen latent vectors, [N, …].
        goal: The exemplars' images with the wanted features put into the generator, [n, C, H, W]; none where these
            cannot be put in.
    """

    problem: RewriteProblem
    result: RewriteResult
    outcome: GeneratorOutcome
    context: MatchedContext
    latents: Tensor
    goal: Tensor | None

    @torch.no_grad()
    def images(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return the generator's images for latent vectors before and after the rewrite, each [N, C, H, W]."""
        network = self.problem.block.network
        before = generate(network, latents)
        with evaluation_mode(network):
            after = functional_call(network, dict(self.result.params), (latents.to(self.problem.block.weight),))
        return before, after


def rewrite_generator(
    network: nn.Module,
    layer: str,
    rule: PasteRule | EraseRule,
    latents: LatentSampler | None = None,
    solver: Solver | None = None,
    rank: int = 1,
    architecture: Architecture = "pixel",
    regularisation: Regularisation | None = None,
    moment: SecondMoment | None = None,
    num_moment_images: int = 1000,
    num_unseen_images: int = 1000,
    moment_seed: int = MOMENT_SEED,
    unseen_seed: int = UNSEEN_SEED,
    quantile: float = 0.99,
    progress: Callable[[str, int, int], object] = lambda task, done, total: None,
) -> GeneratorRewrite:
    """Rewrite one layer of a generator (Bau et al. 2020, "Rewriting a deep generative model").

    Everything runs in evaluation mode, and the network itself stays as it is.

    Args:
        network: The generator, from latent vectors [N, …] to images [N, C, H, W].
        layer: Name of a convolution.
        rule: What is copied and pasted, or erased, and in which context; of latent vectors that this generator takes.
        latents: Where latent vectors come from; by default standard normal ones of the generator's ``latent_size``.
        solver: By default :class:`~editable.rewriting.ProjectedDescent` on the layer with BatchNorm and activation;
            :class:`~editable.rewriting.ClosedForm` looks at the layer alone, by the mean keys of context and copy.
        rank: Number of directions of the keys' space along which a descent may change the weight.
        architecture: What a key is: a ``pixel`` of the layer's input, or a ``patch`` of it.
        regularisation: Of the second moment; by default ε = 1e-4 of its mean eigenvalue is added.
        moment: The second moment of the layer's keys; by default it is collected.
        num_moment_images: Number of images that it is summed over, and that the old way of rewriting
            (:class:`~editable.rewriting.SmoothDescent`) holds in place.
        num_unseen_images: Number of images that the outcome is measured on.
        moment_seed: Of the latent vectors of the former.
        unseen_seed: Of those of the latter.
        quantile: The context matches where a response reaches this quantile of the unseen images' responses.
        progress: Called with a task's name, and how many of how many steps of it are done.

    Raises:
        UserError: If the layer is unknown or no convolution, latent vectors or masks are of another size than the
            generator's, a mask is empty, an image of the rule is among the unseen ones, or a number is out of its
            range.
    """
    require_at_least(1, rank=rank, num_moment_images=num_moment_images, num_unseen_images=num_unseen_images)
    require_seed(moment_seed=moment_seed, unseen_seed=unseen_seed)
    require_within("(0, 1)", quantile=quantile)
    if moment_seed == unseen_seed:
        raise UserError(
            f"the unseen images' seed must be another than that of the second moment, which is {moment_seed}"
        )
    sampler = default_latents(network) if latents is None else latents
    block = LayerBlock(network, layer)
    memory = make_memory(tuple(block.weight.shape), block.geometry, architecture)
    drawn = sampler(num_moment_images, moment_seed).to(block.weight)
    generate(network, drawn[:1])  # says clearly where they do not fit
    unseen = sampler(num_unseen_images, unseen_seed)
    _check_unseen(rule, unseen)
    if moment is None:
        advance = _counted(progress, "second moment", len(drawn))
        moment = collect_second_moment(block, memory, drawn.split(BATCH), progress=advance)
    inverse = InverseMoment(moment, regularisation or Regularisation(epsilon=1e-4))
    if isinstance(rule, PasteRule):
        problem: RewriteProblem = paste_problem(block, memory, rule, inverse, rank)
        exemplars = rule.paste.latents
    else:
        problem = erase_problem(block, memory, rule, moment, inverse, rank)
        exemplars = rule.context.latents
    problem = replace(problem, images=exemplars.to(block.weight), reference_images=drawn)
    steps = ProjectedDescent() if solver is None else solver
    limit = getattr(steps, "max_steps", 0)
    result = steps(problem, lambda step, loss: progress("rewrite", step, limit))
    goal = render(block, exemplars, problem.targets)
    wanted = None if goal is None else _wanted_pixels(problem, generate(network, exemplars), goal)
    outcome, context = measure_generator(
        problem, result.params, unseen, wanted, quantile, BATCH, _counted(progress, "unseen images", len(unseen))
    )
    return GeneratorRewrite(problem, result, outcome, context, unseen, goal)


def _check_unseen(rule: PasteRule | EraseRule, unseen: Tensor) -> None:
    """Raise a :class:`UserError` where an image that a rule is made of would be taken for one that it has not seen."""
    for part in rule:
        if isinstance(part, Selection) and part.latents.shape[1:] == unseen.shape[1:]:
            given = part.latents.to(unseen).flatten(1)
            if (given[:, None] == unseen.flatten(1)[None]).all(dim=2).any():
                raise UserError(
                    "an image of the rule is among the unseen ones, on which the rewrite is measured: take another "
                    "unseen_seed than the rule's seed"
                )


@torch.no_grad()
def render(block: LayerBlock, latents: Tensor, values: Tensor) -> Tensor | None:
    """Return the images that a generator makes of latent vectors with other values in place of a block's output.

    Args:
        block: The block.
        latents: [n, …].
        values: In place of the block's output, [n, f, H', W'].

    Returns:
        [n, C, H, W]; none where the block ends in a function, or a module that is used at several places.
    """
    network = block.network
    last = dict(network.named_modules()).get(block.stages[-1])
    if last is None:
        return None
    calls: list[bool] = []

    def replace(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        calls.append(True)
        return values if output.shape == values.shape else None

    handle = last.register_forward_hook(replace)
    try:
        with evaluation_mode(network):
            images = network(latents.to(block.weight))
    finally:
        handle.remove()
    return images if len(calls) == 1 else None


def _wanted_pixels(problem: RewriteProblem, before: Tensor, goal: Tensor) -> Tensor:
    """Return the mean change of a pixel from before to the goal where the rule was given, [C]."""
    inside = resize_mask(problem.exemplars.mask, (goal.shape[-2], goal.shape[-1]))
    return torch.einsum("nchw,nhw->c", (goal - before).double(), inside.double()) / inside.sum()


def _counted(progress: Callable[[str, int, int], object], task: str, total: int) -> Callable[[int], None]:
    done = 0

    def advance(number: int) -> None:
        nonlocal done
        done += number
        progress(task, done, total)

    return advance
