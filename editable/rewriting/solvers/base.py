"""What all solvers of a rewrite share: one signature, and the measures of what they return."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from editable.errors import UserError
from editable.models import evaluation_mode
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.solvers.result import RewriteResult

__all__ = ["Progress", "Solution", "Solver", "numerical_rank", "with_parameters"]

Progress: TypeAlias = Callable[[int, float], object]
"""Called with the number of updates made and the loss after them."""

Returned = TypeVar("Returned")


class Solution(NamedTuple):
    """What a solver finds.

    Attributes:
        params: Changed parameters by name.
        losses: What was minimised, after 0, 1, … updates.
        inputs: The layer's inputs on the exemplars, where the changed parameters change them.
    """

    params: dict[str, Tensor]
    losses: list[float]
    inputs: Tensor | None = None


class Solver(ABC):
    """Turns a rewrite problem into new parameters, out of place.

    The network's parameters and buffers are never written to. Everything runs in evaluation mode, with the running
    statistics of BatchNorm frozen, and in the precision of the network's weights, also inside ``torch.autocast``.

    Attributes:
        uses_keys: Whether it looks at the exemplars' keys and values.
        uses_rank: Whether the problem's rank makes a difference.
        uses_references: Whether it looks at the problem's reference images.
    """

    uses_keys = True
    uses_rank = False
    uses_references = False

    def __call__(self, problem: RewriteProblem, progress: Progress | None = None) -> RewriteResult:
        """Solve a problem.

        Args:
            problem: What is asked for.
            progress: Called after each loss with the number of updates so far and the loss; solvers without steps do
                not call it.

        Raises:
            UserError: If the features or the new parameters are not finite, or what the solver needs is missing.
        """
        block = problem.block
        start = time.perf_counter()
        with (
            torch.enable_grad(),
            torch.autocast(block.weight.device.type, enabled=False),
            evaluation_mode(block.network),
        ):
            _check_features(problem)
            solution = self._solve(problem, progress)
            _check_params(solution.params)
            seconds = time.perf_counter() - start
            with torch.no_grad():
                return _measure(problem, solution, seconds)

    @abstractmethod
    def _solve(self, problem: RewriteProblem, progress: Progress | None) -> Solution:
        """Return the changed parameters; called with gradients enabled and the network in evaluation mode."""


def with_parameters(network: nn.Module, params: Mapping[str, Tensor], function: Callable[[], Returned]) -> Returned:
    """Call a function that uses a network, with other parameters in place of some of the network's own meanwhile.

    Args:
        network: The network.
        params: Parameters by name.
        function: What to call; whatever part of the network it runs.
    """
    replaced = {f"network.{name}": tensor for name, tensor in params.items()}
    return functional_call(_Holder(network), replaced, (function,))


class _Holder(nn.Module):
    """Gives `functional_call` a module to call that holds the network and runs something of it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, function: Callable[[], Returned]) -> Returned:
        return function()


def numerical_rank(change: Tensor, weight: Tensor) -> int:
    """Return the rank of a change of a weight, as far as rounding lets it be told.

    Rounding the entries of the changed weight W to its data type adds a matrix of Frobenius norm at most ε/2·‖W‖, so
    singular values below ε·‖W‖ are not counted, nor are those below the usual limit for the change itself.

    Args:
        change: ΔW, [f, c].
        weight: The changed weight in its own data type, of any shape.
    """
    upright = change.double() if change.shape[0] >= change.shape[1] else change.double().T  # several times as fast
    values = torch.linalg.svdvals(upright.contiguous())
    own = max(change.shape) * torch.finfo(torch.float64).eps * values.max()
    rounding = torch.finfo(weight.dtype).eps * weight.double().norm()
    return int((values > torch.maximum(own, rounding)).sum())


def _check_features(problem: RewriteProblem) -> None:
    features = {
        "inputs": problem.exemplars.inputs,
        "target inputs": problem.exemplars.target_inputs,
        "targets": problem.targets,
        "values": problem.values,
    }
    for name, tensor in features.items():
        if not tensor.isfinite().all():
            raise UserError(
                f"the {name} of '{problem.block.layer}' are not finite: look at the weights of the network, and at the "
                "exemplars"
            )


def _check_params(params: Mapping[str, Tensor]) -> None:
    for name, tensor in params.items():
        if not tensor.isfinite().all():
            raise UserError(
                f"the rewritten '{name}' is not finite in {tensor.dtype}: ask for less, or regularise the second "
                "moment more"
            )


def _measure(problem: RewriteProblem, solution: Solution, seconds: float) -> RewriteResult:
    block, memory = problem.block, problem.memory
    params = {name: tensor.detach() for name, tensor in solution.params.items()}
    weight = params.get(block.weight_name, problem.weight)
    matrix = memory.matrix(weight.double())
    wanted = problem.values.norm().item()
    before = {name: block.network.get_parameter(name) for name in params}
    norm = _norm({name: tensor.double() - before[name] for name, tensor in params.items()})
    return RewriteResult(
        params=params,
        loss_before=problem.loss(problem.weight).item(),
        loss=_loss(problem, params, solution.inputs),
        residual=(matrix @ problem.keys - problem.values).norm().item() / (wanted or 1.0),
        rank=numerical_rank(matrix - problem.matrix, weight),
        norm=norm,
        relative_norm=norm / (_norm(before) or 1.0),
        num_steps=max(len(solution.losses) - 1, 0),
        seconds=seconds,
        losses=solution.losses,
    )


def _loss(problem: RewriteProblem, params: Mapping[str, Tensor], inputs: Tensor | None) -> float:
    """Return the problem's loss with other parameters, among them perhaps those of the block's BatchNorm."""
    block = problem.block
    inputs = problem.exemplars.inputs if inputs is None else inputs
    weight = params.get(block.weight_name, problem.weight)
    return problem.distance(with_parameters(block.network, params, lambda: block.values(inputs, weight))).item()


def _norm(tensors: Mapping[str, Tensor]) -> float:
    return torch.stack([tensor.detach().double().norm() for tensor in tensors.values()]).norm().item()
