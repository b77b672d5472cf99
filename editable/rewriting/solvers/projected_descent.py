"""Projected descent: gradient descent on a whole weight that is put back to a low-rank change again and again."""

import torch
from torch import Tensor

from editable.errors import require_at_least
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.solvers.base import Progress, Solution
from editable.rewriting.solvers.descent import Descent
from editable.rewriting.solvers.focus import focused_loss

__all__ = ["ProjectedDescent", "project_change"]


def project_change(matrix: Tensor, original: Tensor, directions: Tensor) -> Tensor:
    r"""Return a memory with its change projected onto directions of the keys' space.

    .. math:: W \leftarrow W_0 (I - P) + W P = W_0 + (W - W_0) P, \qquad P = D D^\top

    What keys orthogonal to D recall is then what it was. The form with the difference rounds less.

    Args:
        matrix: W [f, c].
        original: W₀ [f, c].
        directions: D [c, r], orthonormal columns.

    Returns:
        The projected memory in the data type of ``original`` and ``directions``, [f, c].
    """
    return original + (matrix.to(original) - original) @ directions @ directions.T


class ProjectedDescent(Descent):
    """Minimises the problem's loss with Adam on the layer's whole weight, projected every few steps.

    Every ``project_every`` steps and after the last, the change of the weight is projected onto the directions D of the
    problem: an orthonormal basis of C⁻¹K*, or its rank-r directions (Bau et al. 2020). D lives on the keys: in a pixel
    memory on the channels of the input, the same at every tap of the kernel, in a patch memory on the flattened patch.
    Only projected weights are compared and returned, so their change has rank r exactly, but for the rounding of the
    weights to their data type. See :class:`Descent` for how it ends.

    With ``project_gradient`` the gradient is projected too, before each update. Without, what Adam learns between two
    projections is mostly thrown away by the next, and near the minimum the way is many times as long. The published
    code has it as an option; its settings for vehicles on snow (Santurkar et al. 2021) are
    ``ProjectedDescent(1e-4, 20_000, patience=None, project_gradient=False)``.

    Args:
        learning_rate: Of Adam at the beginning, > 0.
        max_steps: Largest number of updates.
        project_every: Number of updates between two projections.
        project_gradient: Whether each gradient is projected before it is used.
        patience: Number of updates in each of the two windows in which a plateau is looked for; none never does.
        tolerance: Relative fall of the mean loss from one window to the next that is too small to go on.
        cuts: How often the learning rate is cut to a tenth at a plateau.

    Raises:
        UserError: If a number is out of its range; when called, if the loss is no longer finite.

    See Also:
        :class:`LambdaDescent`, which never leaves the low-rank changes.
    """

    uses_rank = True

    def __init__(
        self,
        learning_rate: float = 3e-3,
        max_steps: int = 20_000,
        project_every: int = 10,
        patience: int | None = 50,
        tolerance: float = 0.01,
        cuts: int = 2,
        project_gradient: bool = True,
    ) -> None:
        super().__init__(learning_rate, max_steps, patience, tolerance, cuts)
        require_at_least(1, project_every=project_every)
        self.project_every, self.project_gradient = project_every, project_gradient

    def _solve(self, problem: RewriteProblem, progress: Progress | None) -> Solution:
        memory, matrix, directions = problem.memory, problem.matrix, problem.directions
        weight, loss = problem.weight.clone().requires_grad_(), focused_loss(problem)
        if self.project_gradient:
            rounded = directions.to(weight)
            weight.register_hook(lambda gradient: memory.weight(memory.matrix(gradient) @ rounded @ rounded.T))

        @torch.no_grad()
        def project() -> None:
            weight.copy_(memory.weight(project_change(memory.matrix(weight), matrix, directions)))

        losses = self._descend([weight], lambda: loss(weight), progress, project, self.project_every)
        return Solution({problem.block.weight_name: weight}, losses)
