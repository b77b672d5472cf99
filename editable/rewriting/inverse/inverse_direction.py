"""Rewrites in the inverse direction: a memory from outputs to inputs is edited, and turned back into a weight.

The rule is that of a forward rewrite: what the layer reads of the concept, V*, shall give the outputs K* that the
target gives. Backwards the outputs are the keys: U K* = V*, with U₀ = W₀ᵀ or W₀† (Elango 2021, ch. 3, Algorithm 1).
"""

import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor

from editable.errors import UserError
from editable.rewriting.keys.context_keys import mean_key
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.inverse_moment import InverseMoment
from editable.rewriting.memory.memory import Memory
from editable.rewriting.memory.moment_collection import collect_second_moment
from editable.rewriting.memory.second_moment import SecondMoment
from editable.rewriting.memory.transposed_memory import TransposedMemory, transpose_memory
from editable.rewriting.solvers.base import Progress, Solution, Solver
from editable.rewriting.solvers.closed_form import closed_form_update
from editable.rewriting.solvers.result import RewriteResult

__all__ = [
    "InverseDirection",
    "InverseResult",
    "InverseUpdate",
    "Inversion",
    "Survival",
    "collect_output_moment",
    "inverse_rewrite",
    "inverse_update",
    "output_keys",
]

Inversion = Literal["transpose", "pseudo_inverse"]
"""What stands for the inverse of a memory's matrix, on the way there and on the way back."""

BATCH = 50  # images whose outputs are unfolded at once
KEPT = 1e-6  # relative residual up to which a constraint counts as met: float64 on an ill-conditioned matrix


class Survival(NamedTuple):
    """Whether a rule that was put into an inverse memory holds in the forward direction.

    W is the forward memory's matrix [f, c], U the inverse memory's [c, f]; K* [f, S] are outputs, V* [c, S] inputs.

    Attributes:
        inverse_residual: ‖U₁K* − V*‖ / ‖V*‖, in the direction that is edited; zero but for rounding.
        residual_before: ‖W₀V* − K*‖ / ‖K*‖, how far the layer was from the rule before.
        residual: ‖W₁V* − K*‖ / ‖K*‖, how far it is now, in float64.
        survives: Whether the residual is zero but for rounding (≤ 1e-6).
        warning: A sentence that says why not, and by how much; none where it survives.
    """

    inverse_residual: float
    residual_before: float
    residual: float
    survives: bool
    warning: str | None


class InverseUpdate(NamedTuple):
    """A forward memory after a rewrite in the inverse direction.

    Attributes:
        matrix: W₁, float64 [f, c].
        survival: Whether the rule holds for it.
    """

    matrix: Tensor
    survival: Survival


class InverseResult(NamedTuple):
    """The outcome of a rewrite in the inverse direction.

    Attributes:
        rewrite: Changed parameters and the measures of any rewrite. Its ``residual`` is that of the forward problem,
            for the weight in its own data type: for a patch memory (architecture 4) the same constraint as
            ``survival.residual``, for a pixel memory another, since its values are what one pixel adds to the output.
        survival: Whether the rule holds in the forward direction after inversion, in float64.
    """

    rewrite: RewriteResult
    survival: Survival


class InverseDirection(Solver):
    """A rewrite in the inverse direction as a solver, see :func:`inverse_rewrite`.

    Which memory is read backwards is the problem's: of a ``pixel`` memory architecture 3, of a ``patch`` memory
    architecture 4. The second moment of the layer's outputs is summed over the problem's reference images, and
    regularised like that of its inputs. Where the rule does not survive inversion, a warning says so and by how much.

    Args:
        by: ``transpose`` (Elango 2021, Algorithm 1) or ``pseudo_inverse``.

    Attributes:
        survival: Whether the rule that was solved last holds in the forward direction; none before.

    Raises:
        UserError: If ``by`` is neither; when called, if there are no reference images, or what
            :func:`inverse_update` rejects.
    """

    uses_references = True

    def __init__(self, by: Inversion = "pseudo_inverse") -> None:
        _inversion(by)
        self.by = by
        self.survival: Survival | None = None

    def _solve(self, problem: RewriteProblem, progress: Progress | None) -> Solution:
        _check_weight(problem.matrix)  # before the second moment of its outputs is found to be zero
        inverse = self._inverse_moment(problem)
        update = inverse_update(problem.matrix, output_keys(problem), problem.keys, inverse, self.by)
        self.survival = update.survival
        if update.survival.warning is not None:
            warnings.warn(update.survival.warning, UserWarning, stacklevel=3)
        weight = problem.memory.weight(update.matrix).to(problem.weight.dtype)
        return Solution({problem.block.weight_name: weight}, [])

    def _inverse_moment(self, problem: RewriteProblem) -> InverseMoment:
        images = problem.reference_images
        if images is None or not len(images):
            raise UserError(
                "InverseDirection needs reference images, over which the second moment of the layer's outputs is summed"
            )
        moment = collect_output_moment(problem.block, transpose_memory(problem.memory), images.split(BATCH))
        return InverseMoment(moment, problem.inverse.regularisation)


def inverse_rewrite(problem: RewriteProblem, inverse: InverseMoment, by: Inversion) -> InverseResult:
    r"""Rewrite a layer in the inverse direction, for all rules at once, out of place.

    .. math:: U_1 = \arg\min_U \operatorname{tr}\,(U - U_0)\, C\, (U - U_0)^\top \text{ subject to } U K_* = V_*,
       \qquad W_1 = U_1^\top \text{ or } U_1^\dagger

    with U₀ = W₀ᵀ or W₀†, C the second moment of the layer's *outputs*, K* the mean outputs for the target inputs and
    V* the mean inputs that show the concept (Elango 2021, Algorithm 1 and 3.6–3.13, solved by the closed form). With
    architecture 4, the patch memory of the problem read backwards, K* and V* are the values and keys of the forward
    problem; with architecture 3, the pixel memory, K* is a mean of unfolded outputs.

    Where the rule does not survive inversion, a warning says so.

    Args:
        problem: What is asked for. Its own second moment, of inputs, is not used.
        inverse: Of the second moment of the layer's outputs as keys of the memory read backwards, such as
            :func:`collect_output_moment` makes.
        by: ``transpose`` (the thesis' Algorithm 1) or ``pseudo_inverse``.

    Raises:
        UserError: If the second moment is of keys of another size, the weight is zero, ``by`` is neither, or what
            :func:`inverse_update` or the solvers reject.

    See Also:
        :class:`InverseDirection`, which collects the second moment itself;
        :class:`editable.rewriting.ClosedForm`, the same rule in the forward direction.
    """
    solver = _GivenMoment(inverse, by)
    rewrite = solver(problem)
    assert solver.survival is not None
    return InverseResult(rewrite, solver.survival)


def inverse_update(
    matrix: Tensor, keys: Tensor, values: Tensor, inverse: InverseMoment, by: Inversion
) -> InverseUpdate:
    """Return a forward memory whose transpose or pseudo-inverse recalls values for keys, and else changes least.

    The pseudo-inverse keeps the rule where U₁ [c, f] has full column rank, so that W₁U₁ = I: f ≤ c in the memory's
    matrix. Else W₁U₁ is a projection of the outputs. The transpose keeps it only where U₁'s columns happen to be
    orthonormal.

    Args:
        matrix: W₀ [f, c].
        keys: K*, outputs of the layer in columns, [f, S].
        values: V*, inputs of the layer in columns, [c, S].
        inverse: Of the second moment C of outputs.
        by: ``transpose`` or ``pseudo_inverse``.

    Raises:
        UserError: If shapes do not fit, keys are dependent, something is not finite, or the matrix is zero.
    """
    if matrix.ndim != 2 or keys.ndim != 2 or values.ndim != 2:
        raise UserError(
            "a memory [f, c] is rewritten backwards with keys [f, S] and values [c, S], got "
            f"{list(matrix.shape)}, {list(keys.shape)} and {list(values.shape)}"
        )
    if inverse.key_size != matrix.shape[0]:
        raise UserError(
            f"backwards the outputs are the keys, {matrix.shape[0]} entries here, but the second moment is of keys of "
            f"{inverse.key_size}: collect it over the layer's outputs"
        )
    invert = _inversion(by)
    matrix, keys, values = matrix.double(), keys.double(), values.double()
    _check_weight(matrix)
    original = invert(matrix)
    update = closed_form_update(original, keys, values, inverse)
    changed = original + update.coefficients @ update.directions.T
    result = invert(changed)
    inverse_residual, before, after = (
        _relative(changed @ keys, values),
        _relative(matrix @ values, keys),
        _relative(result @ values, keys),
    )
    survives = after <= KEPT
    warning = None if survives else f"{_reason(changed, by)}: {_by_how_much(before, after)}"
    return InverseUpdate(result, Survival(inverse_residual, before, after, survives, warning))


@torch.no_grad()
def output_keys(problem: RewriteProblem) -> Tensor:
    """Return K*, the mean key of each rule in the layer's outputs for the target inputs, float64 [key_size, S].

    Keys are those of the problem's memory read backwards; means are weighted by the mask on its map of keys.
    """
    inputs, rules = problem.exemplars.target_inputs, problem.exemplars.rules
    keys = _keys_of_outputs(problem.block, transpose_memory(problem.memory), inputs)
    weights = problem.key_weights
    if rules is None:
        return mean_key(keys, weights)
    return torch.cat([mean_key(keys[rules == rule], weights[rules == rule]) for rule in range(problem.num_rules)], 1)


def collect_output_moment(
    block: LayerBlock,
    memory: TransposedMemory,
    batches: Iterable[Any],
    positions: int | None = None,
    seed: int = 0,
    progress: Callable[[int], object] = lambda images: None,
) -> SecondMoment:
    """Collect the second moment of a layer's outputs, without its bias, as keys of the layer read backwards.

    Args:
        block: The layer.
        memory: Its memory read backwards.
        batches: Images [N, C, H, W] as the network takes them, or tuples that begin with them.
        positions: Number of keys drawn at random of each image; all by default.
        seed: Of the positions.
        progress: Called with the number of images of each batch.

    Raises:
        UserError: As of :func:`editable.rewriting.collect_second_moment`, which collects that of the inputs.
    """
    # All that it asks of a memory are keys of the layer's inputs, and their size.
    reader = cast(Memory, _OutputReader(block, memory))
    return collect_second_moment(block, reader, batches, positions, seed, progress)


class _OutputReader:
    """Reads the keys of a layer's outputs off its inputs."""

    def __init__(self, block: LayerBlock, memory: TransposedMemory) -> None:
        self.key_size, self._block, self._memory = memory.key_size, block, memory

    def keys(self, inputs: Tensor) -> Tensor:
        return _keys_of_outputs(self._block, self._memory, inputs)


class _GivenMoment(InverseDirection):
    """The same with a second moment at hand."""

    def __init__(self, inverse: InverseMoment, by: Inversion) -> None:
        super().__init__(by)
        self._inverse = inverse

    def _inverse_moment(self, problem: RewriteProblem) -> InverseMoment:
        return self._inverse


def _keys_of_outputs(block: LayerBlock, memory: TransposedMemory, inputs: Tensor) -> Tensor:
    """Return the keys [N, key_size, P] of the outputs W a, without the bias: the memory is the weight alone."""
    outputs = block.outputs(inputs) - block.outputs(torch.zeros_like(inputs[:1]))
    size = None if block.geometry is None else (inputs.shape[-2], inputs.shape[-1])
    return memory.keys(outputs, size)


def _check_weight(matrix: Tensor) -> None:
    if not matrix.any():
        raise UserError("a weight that is zero throughout has no inverse to rewrite")


def _inversion(by: Inversion) -> Callable[[Tensor], Tensor]:
    if by not in get_args(Inversion):
        raise UserError(f"by must be one of {', '.join(get_args(Inversion))}, got {by!r}")
    return torch.linalg.pinv if by == "pseudo_inverse" else lambda matrix: matrix.T


def _relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / (wanted.norm() if wanted.any() else 1.0))


def _reason(changed: Tensor, by: Inversion) -> str:
    """Say why a rule that holds for U₁ [c, f] does not for W₁."""
    channels, outputs = changed.shape
    if by == "transpose":
        return "the rule holds for Wᵀ, but a transpose is no inverse, and the rule is lost when it is transposed back"
    if outputs > channels:
        return (
            f"the memory's matrix [{outputs}, {channels}] has more rows than columns, so that inverting W† back keeps "
            "only a projection of the rule; the patch memory (architecture 4) of a layer with f ≤ c·m·n keeps all of it"
        )
    rank = int(torch.linalg.matrix_rank(changed))
    return (
        f"the rewritten W† [{channels}, {outputs}] has rank {rank}, not {outputs}, or nearly so, and inverting it back "
        "keeps only a projection of the rule"
    )


def _by_how_much(before: float, after: float) -> str:
    return f"‖W V* − K*‖ / ‖K*‖ is {after:.2g}, and was {before:.2g} before"
