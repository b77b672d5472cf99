"""Ways to put a rule into a layer, forwards, backwards and in the Fourier domain, and whether it is met."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

from torch import Tensor

from editable.callbacks.invert.outcome import Constraint
from editable.errors import UserError
from editable.rewriting import (
    Architecture,
    ClosedForm,
    FourierClosedForm,
    InverseDirection,
    LayerBlock,
    RewriteProblem,
    RewriteResult,
    Solver,
)
from editable.rewriting.solvers.periodic_change import check_periodic_change

__all__ = ["METHODS", "InverseMethod", "MethodName", "chosen_methods", "met_constraint"]

MethodName: TypeAlias = Literal[
    "closed_form_pixel",
    "closed_form_patch",
    "transpose_pixel",
    "transpose_patch",
    "pseudo_inverse_pixel",
    "pseudo_inverse_patch",
    "fourier_full_size",
    "fourier_cut",
]


class InverseMethod(NamedTuple):
    """A way to put a rule into a layer.

    Attributes:
        label: As a reader knows it; architectures (arch.) are those of Elango 2021, figure 2-3.
        architecture: Of the forward memory, which may be read backwards.
        solver: Makes the solver; none for the kernel that is too large for the layer.
    """

    label: str
    architecture: Architecture
    solver: Callable[[], Solver] | None


METHODS: dict[MethodName, InverseMethod] = {
    "closed_form_pixel": InverseMethod("closed form, arch. 1", "pixel", ClosedForm),
    "closed_form_patch": InverseMethod("exact patch-wise, arch. 2", "patch", ClosedForm),
    "transpose_pixel": InverseMethod("Wᵀ, arch. 3", "pixel", partial(InverseDirection, "transpose")),
    "transpose_patch": InverseMethod("Wᵀ, arch. 4", "patch", partial(InverseDirection, "transpose")),
    "pseudo_inverse_pixel": InverseMethod("W†, arch. 3", "pixel", partial(InverseDirection, "pseudo_inverse")),
    "pseudo_inverse_patch": InverseMethod("W†, arch. 4", "patch", partial(InverseDirection, "pseudo_inverse")),
    "fourier_full_size": InverseMethod("Fourier, full size", "patch", None),
    "fourier_cut": InverseMethod("Fourier, cut", "patch", FourierClosedForm),
}


def chosen_methods(asked: Sequence[MethodName] | None, block: LayerBlock) -> list[MethodName]:
    """Return the methods that a layer is rewritten by.

    Args:
        asked: Those that are asked for; none for all that the layer allows. Of a linear layer both memories are the
            same, and one of them is looked at.
        block: The layer.

    Raises:
        UserError: If one is asked for that the layer does not allow.
    """
    reason = _no_fourier(block)
    if asked is None:
        linear = block.geometry is None
        return [
            name
            for name, method in METHODS.items()
            if not (reason and _in_fourier_domain(name)) and not (linear and method.architecture == "patch")
        ]
    if reason is not None and any(map(_in_fourier_domain, asked)):
        raise UserError(f"{reason}: leave the methods of the Fourier domain out of invert.methods")
    return list(asked)


def met_constraint(problem: RewriteProblem, solver: Solver | None, result: RewriteResult) -> Constraint:
    """Return how far a layer was from the rule, and is after a solver's rewrite."""
    if isinstance(solver, InverseDirection):
        survival = solver.survival
        assert survival is not None, "the solver has made the rewrite"
        return Constraint(survival.residual_before, survival.residual, survival.inverse_residual, survival.warning)
    return Constraint(_distance(problem.matrix @ problem.keys, problem.values), result.residual)


def _distance(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / (wanted.norm() if wanted.any() else 1.0))


def _in_fourier_domain(name: MethodName) -> bool:
    return name in ("fourier_full_size", "fourier_cut")


def _no_fourier(block: LayerBlock) -> str | None:
    try:
        check_periodic_change(block.layer, block.geometry)
    except UserError as error:
        return str(error)
    return None
