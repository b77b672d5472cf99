"""The old way to rewrite: gradient descent on all weights, or one layer's, with a term that holds the rest in place."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from editable.errors import UserError, require_at_least, require_positive, require_seed
from editable.models import logits_of
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.solvers.base import Progress, Solution, with_parameters
from editable.rewriting.solvers.descent import Descent

__all__ = ["SmoothDescent"]


class SmoothDescent(Descent):
    r"""Minimises the change on reference images plus the distance from the targets, with Adam, as a baseline.

    .. math:: \min_\theta \; \mathbb{E}_x\, \ell(f(x; \theta_0), f(x; \theta)) + \lambda\, \ell(v_*, f(x_*; \theta))

    (Bau et al. 2020, 2–4 for all weights and 6–8 for one layer.) ℓ is the mean squared difference; in the second term,
    over the concept's positions as the mask weighs them, which makes λ independent of their number. With ``layer``, θ
    is the layer's weight and f the block. On a layer without BatchNorm and activation the minimum lies between W₀ and
    the closed form, which it nears as λ grows. With ``all``, θ are all parameters of the network; what is held in place
    are its logits, what is wanted are the block's values.

    Each step looks at ``batch_size`` reference images. Single losses are then too random to be compared, so the last
    weights are returned, not the best. See :class:`Descent` for how it ends.

    Args:
        layers: ``layer`` or ``all``.
        constraint: λ > 0.
        learning_rate: Of Adam at the beginning, > 0.
        max_steps: Largest number of updates.
        patience: Number of updates in each of the two windows in which a plateau is looked for; none never does.
        tolerance: Relative fall of the mean loss from one window to the next that is too small to go on.
        cuts: How often the learning rate is cut to a tenth at a plateau.
        batch_size: Number of reference images in each step; all where there are no more.
        seed: Of the order in which reference images are taken.

    Raises:
        UserError: If an argument is out of its range; when called, if the problem has no reference images, or with
            ``all`` no images that lead to its exemplars, or if the loss is no longer finite.
    """

    uses_references = True
    _noisy = True

    def __init__(
        self,
        layers: Literal["layer", "all"] = "layer",
        constraint: float = 1.0,
        learning_rate: float = 1e-3,
        max_steps: int = 2000,
        patience: int | None = 100,
        tolerance: float = 0.01,
        cuts: int = 2,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__(learning_rate, max_steps, patience, tolerance, cuts)
        if layers not in ("layer", "all"):
            raise UserError(f"layers must be 'layer' or 'all', got {layers!r}")
        require_positive(constraint=constraint)
        require_at_least(1, batch_size=batch_size)
        require_seed(seed=seed)
        self.layers, self.constraint, self.batch_size, self.seed = layers, constraint, batch_size, seed

    def _solve(self, problem: RewriteProblem, progress: Progress | None) -> Solution:
        references = problem.reference_images
        if references is None or not len(references):
            raise UserError("SmoothDescent needs reference images, on which the network shall stay as it is")
        references = references.to(problem.weight.device)
        return (self._solve_layer if self.layers == "layer" else self._solve_all)(problem, references, progress)

    def _solve_layer(self, problem: RewriteProblem, references: Tensor, progress: Progress | None) -> Solution:
        block = problem.block
        with torch.no_grad():
            inputs = torch.cat([block.inputs(part) for part in references.split(self.batch_size)])
        batches = self._batches(len(inputs))
        weight = problem.weight.clone().requires_grad_()

        def objective() -> Tensor:
            batch = inputs[next(batches)]
            with torch.no_grad():
                before = block.values(batch)
            smooth = (block.values(batch, weight) - before).square().mean()
            return smooth + self.constraint * _distance(problem, block.values(problem.exemplars.inputs, weight))

        losses = self._descend([weight], objective, progress)
        return Solution({block.weight_name: weight}, losses)

    def _solve_all(self, problem: RewriteProblem, references: Tensor, progress: Progress | None) -> Solution:
        block, network, images = problem.block, problem.block.network, _check_images(problem)
        params = {name: own.detach().clone().requires_grad_() for name, own in network.named_parameters()}
        with torch.no_grad():
            before = torch.cat([logits_of(network(part)) for part in references.split(self.batch_size)])
        batches = self._batches(len(references))

        def objective() -> Tensor:
            batch = next(batches)
            logits, values = with_parameters(
                network,
                params,
                lambda: (
                    logits_of(network(references[batch])),
                    block.values(block.inputs(images), params[block.weight_name]),
                ),
            )
            return (logits - before[batch]).square().mean() + self.constraint * _distance(problem, values)

        losses = self._descend(list(params.values()), objective, progress)
        with torch.no_grad():
            inputs = with_parameters(network, params, lambda: block.inputs(images))
        return Solution(dict(params), losses, inputs)

    def _batches(self, number: int) -> Iterator[Tensor | slice]:
        """Yield the indices of one batch after another, each pass in a new order."""
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            if number <= self.batch_size:
                yield slice(None)
            else:
                yield from torch.randperm(number, generator=generator).split(self.batch_size)


def _distance(problem: RewriteProblem, values: Tensor) -> Tensor:
    """Return the mean squared difference of the block's output from the targets, weighted by the mask."""
    channels = -1 if problem.block.geometry is None else 1
    squares = (values - problem.targets).square().mean(dim=channels)
    return (squares * problem.value_mask).sum() / problem.value_mask.sum()


def _check_images(problem: RewriteProblem) -> Tensor:
    """Return the images that lead to the exemplars, for layers before this one change with the others."""
    if problem.images is None:
        raise UserError(
            "SmoothDescent on all weights needs the exemplars' images, not only what the layer reads of them"
        )
    with torch.no_grad():
        inputs = problem.block.inputs(problem.images)
    if inputs.shape != problem.exemplars.inputs.shape or not torch.allclose(
        inputs, problem.exemplars.inputs, 1e-3, 1e-4
    ):
        raise UserError(
            "SmoothDescent on all weights needs exemplars that come from images: these were changed at the layer itself"
        )
    return problem.images
