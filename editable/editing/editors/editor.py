"""The Edit operation by an update rule: one edit, or many at once, plain or differentiable."""

import copy
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

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
from editable.editing.rules.update_rule import Params, State, UpdateRule
from editable.models.split.form_table import are_large

__all__ = ["Editor", "gradients_of", "keep_where", "map_single"]

_Map = Callable[[Callable[..., Any]], Callable[..., Any]]
_T = TypeVar("_T")


class Editor(BaseEditor):
    """Repeats an update rule until the edit objective is ≤ 0 or ``max_steps`` updates were made.

    Args:
        rule: The update rule; its learnable constants are this module's parameters.
        autocast: Leave the surrounding autocast on in the inner loop, which else runs in the parameters' own precision.
            Of no use on a CPU; see ``docs/performance.md``.

    Further arguments and errors: see :class:`~editable.editing.BaseEditor`.

    Example:
        >>> network = torch.nn.Linear(4, 3)
        >>> def forward(inputs, params):
        ...     return torch.func.functional_call(network, params, inputs)
        >>> editor = Editor(GD(learning_rate=0.1))
        >>> result = editor(forward, dict(network.named_parameters()), torch.randn(1, 4), torch.tensor([2]))

    See Also:
        :class:`~editable.editing.HigherEditor`, which runs any ``torch.optim`` optimizer instead of a rule.
    """

    def __init__(self, rule: UpdateRule, max_steps: int = 10, margin: float = 0.0, autocast: bool = False) -> None:
        super().__init__(max_steps, margin)
        self.rule = rule
        self.autocast = autocast

    def forward(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        differentiable: bool = False,
    ) -> EditResult:
        """Make one edit; see :meth:`BaseEditor.forward`."""
        asked, targets = targets, check_edit(params, inputs, targets)
        inputs, targets = tree_map(lambda tensor: tensor.unsqueeze(0), (inputs, targets))
        result = self._edit(map_single, forward, params, inputs, targets, differentiable, label_range(asked))
        return EditResult(*tree_map(lambda tensor: tensor.squeeze(0), tuple(result)))

    def edit_many(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        differentiable: bool = False,
    ) -> EditResult:
        """Make E edits at once by ``torch.func.vmap``, large ones on a CPU one by one: :meth:`BaseEditor.edit_many`.

        A ``forward`` that vmap cannot map, such as one whose way depends on the data, is run for one edit at a time,
        with a warning. An edit that has met its objective leaves the computation while the others go on, so that its
        parameters stay as they were when it succeeded. Which have is asked once a step; differentiable edits on an
        accelerator are not asked for, but stay where they are through all ``max_steps``.
        """
        asked, targets = targets, check_edit(params, inputs, targets, 2)
        if are_large(params):
            return super().edit_many(forward, params, inputs, targets, differentiable)
        span = label_range(asked)
        if len(targets) == 1:
            return self._edit(map_single, forward, params, inputs, targets, differentiable, span)
        try:
            return self._edit(torch.func.vmap, forward, params, inputs, targets, differentiable, span)
        except RuntimeError as error:
            if not str(error).startswith("vmap:"):
                raise
            reason = str(error).removeprefix("vmap:").strip().partition(". ")[0]
            warnings.warn(
                f"edits are made one at a time, which is slower, as several at once are impossible here ({reason})",
                UserWarning,
                stacklevel=2,
            )
        return super().edit_many(forward, params, inputs, targets, differentiable)

    def with_learning_rate(self, learning_rate: float) -> "Editor":
        """Return a copy with another learning rate of the rule; see :meth:`BaseEditor.with_learning_rate`."""
        editor = copy.deepcopy(self)
        editor.rule = self.rule.with_learning_rate(learning_rate)
        return editor

    def rank_of_change(self, num_samples: int) -> int | None:
        """Return steps times samples where the rule adds up gradients; see :meth:`BaseEditor.rank_of_change`."""
        return self.max_steps * num_samples if self.rule.adds_gradients else None

    def _init(self, params: Params) -> State:
        """Return the state before the first step, as :meth:`UpdateRule.init`; a subclass may keep more."""
        return self.rule.init(params)

    def _update(self, grads: Params, state: State, params: Params) -> tuple[Params, State]:
        """Make one step, as :meth:`UpdateRule.update`; a subclass may do more."""
        return self.rule.update(grads, state, params)

    def _edit(
        self,
        map_edits: _Map,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        differentiable: bool,
        span: tuple[int, int],
    ) -> EditResult:
        """Run the loop on a leading dimension E that ``map_edits`` maps functions over; ``span`` is the labels'."""
        objective = map_edits(self._loss_function(forward, span))
        update = map_edits(self._update)
        inputs = match_precision(inputs, params, differentiable)
        with inner_loop(targets.device, differentiable, self.autocast):
            # Copies, so that the result of an edit that needs no step shares no memory with the network.
            current = {
                name: param.expand(len(targets), *param.shape).clone().requires_grad_()
                for name, param in params.items()
            }
            state = map_edits(self._init)(current)
            if differentiable and targets.device.type != "cpu":
                return self._unroll(objective, update, current, state, inputs, targets)
            return self._stop_early(objective, update, current, state, inputs, targets, differentiable)

    def _stop_early(
        self,
        objective: Callable[..., tuple[Tensor, Tensor]],
        update: Callable[..., tuple[Params, State]],
        current: Params,
        state: State,
        inputs: Inputs,
        targets: Tensor,
        differentiable: bool,
    ) -> EditResult:
        """Go on with the edits that have not succeeded; their number, read once a step, is all the host waits for."""
        edits = torch.arange(len(targets), device=targets.device)
        finished: list[tuple[Tensor, EditResult]] = []
        for step in range(self.max_steps + 1):
            if not differentiable:
                current = {name: param.detach().requires_grad_() for name, param in current.items()}
            loss, success = objective(current, inputs, targets)
            num_leaving = int(success.sum()) if step < self.max_steps else len(success)
            staying, leaving = success.long().argsort(stable=True).tensor_split([len(success) - num_leaving])
            if num_leaving:
                result = EditResult(current, loss, success, torch.full_like(edits, step))
                finished.append(_take(leaving, (edits, result)))
            if num_leaving == len(success):
                break
            gradients = gradients_of(loss, current, differentiable)
            if num_leaving:
                going_on = (edits, inputs, targets, current, state, gradients)
                edits, inputs, targets, current, state, gradients = _take(staying, going_on)
            current, state = update(gradients, state, current)
        return _in_order(finished, differentiable)

    def _unroll(
        self,
        objective: Callable[..., tuple[Tensor, Tensor]],
        update: Callable[..., tuple[Params, State]],
        current: Params,
        state: State,
        inputs: Inputs,
        targets: Tensor,
    ) -> EditResult:
        """Make all ``max_steps`` steps, with a graph; an edit that has succeeded stays where it is. No wait."""
        num_steps = torch.zeros(len(targets), dtype=torch.int64, device=targets.device)
        for _ in range(self.max_steps):
            loss, success = objective(current, inputs, targets)
            moved = update(gradients_of(loss, current, True), state, current)
            current, state = tree_map(partial(keep_where, success), moved, (current, state))
            num_steps = num_steps + ~success
        return EditResult(current, *objective(current, inputs, targets), num_steps)


def map_single(function: Callable[..., Any]) -> Callable[..., Any]:
    """Map a function over a leading dimension of size 1 without vmap, whose batched weights cost time."""

    def mapped(*arguments: Any) -> Any:
        result = function(*tree_map(lambda tensor: tensor.squeeze(0), arguments))
        return tree_map(lambda tensor: tensor.unsqueeze(0), result)

    return mapped


def gradients_of(loss: Tensor, current: Params, differentiable: bool) -> Params:
    """Return each edit's gradients: its loss depends on its own parameters alone, so the sum's are all of them.

    A parameter that the logits do not depend on, such as an auxiliary head's, has a gradient of zero.
    """
    values = torch.autograd.grad(
        loss.sum(), list(current.values()), create_graph=differentiable, materialize_grads=True
    )
    return dict(zip(current, values, strict=True))


def _take(chosen: Tensor, tree: _T) -> _T:
    """Select edits by number from all tensors of a tree; nothing is copied where they are all."""
    (number, *_) = {len(tensor) for tensor in tree_leaves(tree)}
    return tree if len(chosen) == number else tree_map(lambda tensor: tensor.index_select(0, chosen), tree)


def keep_where(done: Tensor, moved: Tensor, kept: Tensor) -> Tensor:
    """Return what the edits that are not done have moved to, and what those that are [E] have kept, [E, …]."""
    return torch.where(done.view(-1, *[1] * (moved.ndim - 1)), kept, moved)


def _in_order(finished: list[tuple[Tensor, EditResult]], differentiable: bool) -> EditResult:
    """Put edits that finished at different steps back into the order in which they were asked for."""
    edits, results = zip(*finished, strict=True)
    if len(finished) == 1:
        result = results[0]
    else:
        order = torch.cat(edits).argsort()
        result = tree_map(lambda *tensors: torch.cat(tensors)[order], *results)
    return result if differentiable else tree_map(torch.Tensor.detach, result)
