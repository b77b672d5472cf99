"""An editor that has learnt how to edit: it transforms the factors of a layer's gradient before it steps."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from editable.editing.editors.base import (
    BaseEditor,
    ForwardFunction,
    Inputs,
    check_edit,
    inner_loop,
    label_range,
    match_precision,
)
from editable.editing.editors.result import EditResult
from editable.errors import UserError, require_positive, require_width

__all__ = ["FactorTransform", "LearnedEditor"]

TINY = 1e-12  # below a mean square: keeps the root's derivative finite where a factor is zero


class FactorTransform(nn.Module):
    r"""Maps what a linear layer reads, u, and the gradient by its output, δ, to what the layer is changed by.

    .. math:: (\tilde u, \tilde δ) = (u, δ) + (ρ_u, ρ_δ) ⊙ U\, \mathrm{gelu}\bigl(V (u/ρ_u, δ/ρ_δ) + b\bigr),
        \qquad ρ_x = \sqrt{\mathrm{mean}(x^2)}

    A residual network of low rank on both factors together, each at unit scale; U starts at zero, so that it starts as
    the identity.

    Args:
        input_size: Length of u.
        output_size: Length of δ.
        rank: Rows of V.
        learning_rate: α, at first, of the weight and of the bias.

    Attributes:
        log_learning_rates: Of weight and bias, [2].
    """

    def __init__(self, input_size: int, output_size: int, rank: int, learning_rate: float) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, output_size
        self.reduce = nn.Linear(input_size + output_size, rank)
        self.expand = nn.Linear(rank, input_size + output_size, bias=False)
        nn.init.zeros_(self.expand.weight)
        self.log_learning_rates = nn.Parameter(torch.full((2,), math.log(learning_rate)))

    def forward(self, u: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factors [M, input_size] and [M, output_size] transformed."""
        scales = [(x.square().mean(dim=-1, keepdim=True) + TINY).sqrt() for x in (u, delta)]
        both = torch.cat([u / scales[0], delta / scales[1]], dim=-1)
        changes = self.expand(functional.gelu(self.reduce(both))).split([self.input_size, self.output_size], dim=-1)
        return u + scales[0] * changes[0], delta + scales[1] * changes[1]


class LearnedEditor(BaseEditor):
    r"""Steps along the gradient whose factors a small network, trained for it, has transformed.

    MEND (Mitchell et al., ICLR 2022). For a linear layer the gradient of the loss, :math:`-\log p(y|x)`, is a sum of
    terms of rank one over samples (and positions), of what the layer reads, u, and the gradient by its output, δ:

    .. math:: ∇_W = \sum_i δ_i u_i^\top, \qquad W ← W - α \sum_i \tilde δ_i \tilde u_i^\top, \quad
        b ← b - α_b \sum_i \tilde δ_i

    with a :class:`FactorTransform` and learnt α for each layer. They start as gradient descent, and are trained by
    :class:`editable.tasks.EditableTrainingTask`, whose checkpoint has them; differences to the paper are that factors
    are put at unit scale one by one rather than by running statistics, that there is one residual block, and that
    success ends the edit where more than one step is allowed. Layers have transforms of their own.

    Args:
        rank: Length of the hidden vector of each transform.
        learning_rate: α at first.
        max_steps: k, the largest number of updates.
        margin: By how much, in nats, the asked label has to lead all others.

    Attributes:
        transforms: By name of the layer's weight, with "/" in place of "."; made by :meth:`prepare`.

    Raises:
        UserError: If a number is out of its range.
    """

    def __init__(self, rank: int = 64, learning_rate: float = 0.1, max_steps: int = 1, margin: float = 0.0) -> None:
        super().__init__(max_steps, margin)
        require_width(rank=rank)
        require_positive(learning_rate=learning_rate)
        self.rank, self.learning_rate = rank, learning_rate
        self.transforms = nn.ModuleDict()

    def prepare(self, params: Mapping[str, Tensor]) -> None:
        """Make a transform for each linear layer, unless it is there; see :meth:`BaseEditor.prepare`."""
        weights = [name for name, param in params.items() if _is_weight(name) and param.ndim == 2]
        rest = params.keys() - set(weights) - {_bias_of(name) for name in weights}
        if rest:
            name = min(rest)
            raise UserError(
                f"LearnedEditor changes weights, and biases with them, of linear layers, but '{name}' is none, of "
                f"shape {list(params[name].shape)}: name linear layers, such as fc or extra_layer"
            )
        for name in weights:
            outputs, inputs = params[name].shape
            there = self._transform(name)
            if there is None or (there.input_size, there.output_size) != (inputs, outputs):
                made = FactorTransform(inputs, outputs, self.rank, self.learning_rate)
                self.transforms[_key(name)] = made.to(params[name].device, params[name].dtype)

    def forward(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        differentiable: bool = False,
    ) -> EditResult:
        """Make one edit; see :meth:`BaseEditor.forward`.

        Raises:
            UserError: Besides, if there is no transform for a layer, or a weight is used other than by a linear layer.
        """
        asked, targets = targets, check_edit(params, inputs, targets)
        unknown = [name for name in params if _is_weight(name) and self._transform(name) is None]
        if unknown or not any(map(_is_weight, params)):
            raise UserError(
                f"LearnedEditor has learnt nothing for {unknown[0] if unknown else 'biases alone'!r}: train it there "
                "by EditableTrainingTask, or call prepare(params) to begin with gradient descent"
            )
        inputs = match_precision(inputs, params, differentiable)
        answers: list[Tensor] = []

        def answer(inputs: Inputs, params: Mapping[str, Tensor]) -> Tensor:
            answers[:] = [forward(inputs, params)]
            return answers[0]

        objective = self._loss_function(answer, label_range(asked))
        unrolled = differentiable and targets.device.type != "cpu"  # all steps: a device is not asked how far it is
        num_steps = torch.zeros((), dtype=torch.int64, device=targets.device)
        with inner_loop(targets.device, differentiable):
            current = {name: param.clone().requires_grad_() for name, param in params.items()}
            for step in range(self.max_steps + 1):
                if not differentiable:
                    current = {name: param.detach().requires_grad_() for name, param in current.items()}
                with _Listening(current) as heard:
                    loss, success = objective(current, inputs, targets)
                if step == self.max_steps or (not unrolled and success):
                    break
                likelihood = functional.cross_entropy(answers[0], targets)
                moved = self._step(current, likelihood, heard.calls, differentiable)
                current = {
                    name: torch.where(success, current[name], some) if unrolled else some
                    for name, some in moved.items()
                }
                num_steps = num_steps + ~success
        result = EditResult(current, loss, success, num_steps)
        if differentiable:
            return result
        return EditResult(
            {name: param.detach() for name, param in current.items()}, *(some.detach() for some in result[1:])
        )

    def with_learning_rate(self, learning_rate: float) -> "LearnedEditor":
        """Return a copy with this rate for all layers, fixed; see :meth:`BaseEditor.with_learning_rate`."""
        require_positive(learning_rate=learning_rate)
        editor = copy.deepcopy(self)
        editor.learning_rate = learning_rate
        for name, constant in editor.transforms.named_parameters():
            if name.endswith("log_learning_rates"):
                constant.requires_grad_(False).fill_(math.log(learning_rate))
        return editor

    def _transform(self, name: str) -> FactorTransform | None:
        found = dict(self.transforms.items()).get(_key(name))
        return found if isinstance(found, FactorTransform) else None

    def _step(
        self,
        params: Mapping[str, Tensor],
        loss: Tensor,
        calls: Mapping[str, list[tuple[Tensor, Tensor]]],
        differentiable: bool,
    ) -> dict[str, Tensor]:
        """Return parameters after a step, of the calls (what was read, what was written) of each layer."""
        written = [output for some in calls.values() for _, output in some]
        gradients = iter(torch.autograd.grad(loss, written, create_graph=differentiable, materialize_grads=True))
        edited = dict(params)
        for name, some in calls.items():
            u = torch.cat([read.flatten(0, -2) for read, _ in some])
            delta = torch.cat([next(gradients).flatten(0, -2) for _ in some])
            transform = self._transform(name)
            assert transform is not None  # as forward has looked
            u, delta = transform(u, delta)
            rates = transform.log_learning_rates.exp()
            edited[name] = params[name] - rates[0] * delta.T @ u
            if (bias := _bias_of(name)) in params:
                edited[bias] = params[bias] - rates[1] * delta.sum(dim=0)
        return edited


class _Listening(TorchFunctionMode):
    """Keeps what linear layers with given weights read and write, as long as the context lasts.

    Attributes:
        calls: For each weight by name, its calls: input [..., c] and output [..., o].
    """

    def __init__(self, params: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.calls: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in params if _is_weight(name)}
        self._names = {id(params[name]): name for name in self.calls}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        if function is not functional.linear:
            return output
        given = dict(zip(("input", "weight"), args, strict=False)) | (kwargs or {})
        name = self._names.get(id(given["weight"]))
        if name is None:
            return output
        self.calls[name].append((given["input"], output))
        return output.clone()  # what follows may write into it

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        unused = [name for name, some in self.calls.items() if not some]
        if unused and exception[0] is None:
            raise UserError(
                f"LearnedEditor changes linear layers, but {unused[0]!r} is not used as one by the network: leave it "
                "out of the editable layers"
            )


def _is_weight(name: str) -> bool:
    return name.rpartition(".")[2] == "weight"


def _bias_of(name: str) -> str:
    return f"{name.removesuffix('weight')}bias"


def _key(name: str) -> str:
    return name.replace(".", "/")
