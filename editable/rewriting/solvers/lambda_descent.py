"""Λ descent: the rewrite of a layer with BatchNorm and activation by gradient descent on the low-rank coefficients."""

from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.solvers.base import Progress, Solution
from editable.rewriting.solvers.descent import Descent
from editable.rewriting.solvers.focus import focused_loss

__all__ = ["LambdaDescent"]


class LambdaDescent(Descent):
    r"""Minimises the problem's loss over W = W₀ + Λ Dᵀ, with Adam on Λ.

    .. math:: \Lambda = \arg\min_\Lambda \lVert v_* - f(k_*; W_0 + \Lambda D^\top) \rVert_1

    f is the block of layer, BatchNorm and activation, D an orthonormal basis of C⁻¹K* or of the rank-r directions of
    the problem (Bau et al. 2020; Elango 2021, 2.20). See :class:`Descent` for how it ends.

    Args:
        learning_rate: Of Adam at the beginning, > 0.
        max_steps: Largest number of updates.
        patience: Number of updates in each of the two windows in which a plateau is looked for; none never does.
        tolerance: Relative fall of the mean loss from one window to the next that is too small to go on.
        cuts: How often the learning rate is cut to a tenth at a plateau.

    Raises:
        UserError: If a number is out of its range; when called, if the loss is no longer finite.

    See Also:
        :class:`ProjectedDescent`, the published way to about the same minimum.
    """

    uses_rank = True

    def __init__(
        self,
        learning_rate: float = 3e-2,
        max_steps: int = 20_000,
        patience: int | None = 30,
        tolerance: float = 0.01,
        cuts: int = 2,
    ) -> None:
        super().__init__(learning_rate, max_steps, patience, tolerance, cuts)

    def _solve(self, problem: RewriteProblem, progress: Progress | None) -> Solution:
        memory, exact = problem.memory, problem.directions
        matrix, directions = memory.matrix(problem.weight), exact.to(problem.weight.dtype)
        coefficients = matrix.new_zeros(len(matrix), directions.shape[1]).requires_grad_()
        loss = focused_loss(problem)
        losses = self._descend(
            [coefficients], lambda: loss(memory.weight(matrix + coefficients @ directions.T)), progress
        )
        rewritten = problem.matrix + coefficients.detach().double() @ exact.T
        return Solution({problem.block.weight_name: memory.weight(rewritten).to(problem.weight.dtype)}, losses)
