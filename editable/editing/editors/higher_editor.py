"""The Edit operation by any ``torch.optim`` optimizer, made differentiable by the library ``higher``."""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import higher
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from editable.editing.editors.base import (
    BaseEditor,
    ForwardFunction,
    Inputs,
    check_edit,
    inner_loop,
    label_range,
    match_precision,
)
from editable.editing.editors.configuration import class_path_of, configuration_of
from editable.editing.editors.result import EditResult
from editable.errors import UserError, require_positive

__all__ = ["HigherEditor"]


class HigherEditor(BaseEditor):
    """Runs any optimizer that ``higher`` knows (or that the user registers with it) as an editor.

    It is the door for one's own optimizers and an independent check of the package's own rules. Only the edited
    parameters are handed to ``higher``, which would otherwise differentiate the whole network at every step. Two
    limits are ``higher``'s and ``torch.optim``'s own: every intermediate set of parameters stays alive, and with ε
    outside the root the second-order gradients of ``torch.optim.RMSprop`` grow as 1/ε where a gradient vanishes, to
    NaN if it is centred; :class:`~editable.editing.RMSProp` stays finite there.

    Args:
        optimizer: From parameters to an optimizer, such as ``functools.partial(torch.optim.SGD, lr=0.1)``.

    Further arguments and errors: see :class:`~editable.editing.BaseEditor`.

    See Also:
        :class:`~editable.editing.Editor`, which runs the package's own rules, also many edits at once.
    """

    def __init__(
        self, optimizer: Callable[[Iterable[nn.Parameter]], Optimizer], max_steps: int = 10, margin: float = 0.0
    ) -> None:
        super().__init__(max_steps, margin)
        try:
            optimizer([nn.Parameter(torch.zeros(1, 1))])
        except ValueError as error:  # torch looks at its numbers when it is made, which is within an edit
            raise UserError(f"the editor's optimizer cannot be made: {error}") from error
        self.optimizer = optimizer

    def forward(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        differentiable: bool = False,
    ) -> EditResult:
        """Make one edit; see :meth:`BaseEditor.forward`."""
        targets = check_edit(params, inputs, targets)
        loss_function = self._loss_function(forward, label_range(targets))
        inputs = match_precision(inputs, params, differentiable)
        names = list(params)
        module = _Parameters(params)
        with (
            inner_loop(targets.device, differentiable),
            higher.innerloop_ctx(
                module,
                self.optimizer(module.parameters()),
                copy_initial_weights=False,
                track_higher_grads=differentiable,
            ) as (patched, optimizer),
        ):
            if differentiable:
                patched.update_params([param.clone().requires_grad_() for param in params.values()])
            for num_steps in range(self.max_steps + 1):
                current = dict(zip(names, patched.fast_params, strict=True))
                loss, success = loss_function(current, inputs, targets)
                if success or num_steps == self.max_steps:
                    break
                optimizer.step(loss)
        if not differentiable:
            current, loss = {name: param.detach() for name, param in current.items()}, loss.detach()
        return EditResult(current, loss, success, torch.tensor(num_steps, device=loss.device))

    def with_learning_rate(self, learning_rate: float) -> "HigherEditor":
        """Return a copy whose optimizer has another ``lr``; see :meth:`BaseEditor.with_learning_rate`."""
        require_positive(learning_rate=learning_rate)
        editor = copy.deepcopy(self)
        editor.optimizer = partial(_make_with_learning_rate, self.optimizer, learning_rate)
        return editor

    def configuration(self) -> dict[str, Any]:
        """Return class path and arguments, the optimizer's own among them; see :meth:`BaseEditor.configuration`."""
        optimizer = self.optimizer([nn.Parameter(torch.zeros(1))])
        known = inspect.signature(type(optimizer)).parameters.keys() - {"params"}
        settings = {name: value for name, value in optimizer.param_groups[0].items() if name in known}
        return configuration_of(self, optimizer={"class_path": class_path_of(type(optimizer)), "init_args": settings})


def _make_with_learning_rate(
    make: Callable[[Iterable[nn.Parameter]], Optimizer], learning_rate: float, params: Iterable[nn.Parameter]
) -> Optimizer:
    optimizer = make(params)
    for group in optimizer.param_groups:
        if "lr" not in group:
            raise UserError(f"{type(optimizer).__name__} has no learning rate, lr, that could be set")
        group["lr"] = learning_rate
    return optimizer


class _Parameters(nn.Module):
    """The edited parameters alone, as the module that ``higher`` patches."""

    def __init__(self, params: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = nn.ParameterList([nn.Parameter(param.detach().clone()) for param in params.values()])

    def forward(self) -> None:
        """Do nothing: the loss is computed from the patched module's parameters."""
