"""Groups of edits of one network, group after group in the same tensors: a step is a CUDA graph, replayed k times."""

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any

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
    require_classes,
)
from editable.editing.editors.editor import Editor, gradients_of, keep_where, map_single
from editable.editing.editors.result import EditResult
from editable.models.machine.graphs import Graphs
from editable.models.split.form_table import are_large

__all__ = ["StaticEdits", "StaticLoop", "many_edits"]


def many_edits(editor: BaseEditor, graphs: Graphs) -> Callable[..., EditResult]:
    """Return the editor's ``edit_many``, by graphs where there are any and its steps are those of :class:`Editor`.

    What it returns is for edits of one network whose other parameters and buffers stay where they are meanwhile.
    """
    plain = getattr(editor.edit_many, "__func__", None) is Editor.edit_many
    if graphs.on and plain and isinstance(editor, Editor) and not editor.autocast:
        return StaticEdits(editor, graphs)
    return editor.edit_many


class StaticEdits:
    """``Editor.edit_many`` without a graph for gradients; from the second group of a shape on, a step is replayed.

    An edit that has met its objective stays where it is while the others go on, in place of leaving: the group's shape
    is the same at each step. So it is the same edit up to rounding, which may depend on the number of edits.

    Args:
        editor: Makes the edits.
        graphs: Where steps are recorded.
    """

    def __init__(self, editor: Editor, graphs: Graphs) -> None:
        self.editor, self.graphs = editor, graphs
        self._loops: dict[Hashable, StaticLoop | None] = {}

    def __call__(
        self, forward: ForwardFunction, params: Mapping[str, Tensor], inputs: Inputs, targets: Tensor
    ) -> EditResult:
        """Make E edits at once; see :meth:`BaseEditor.edit_many`."""
        key = (forward, *((some.shape, some.dtype) for some in tree_leaves((dict(params), inputs))))
        if key not in self._loops or not self.graphs.on or are_large(params):
            self._loops.setdefault(key, None)
            return self.editor.edit_many(forward, params, inputs, targets)
        asked, targets = targets, check_edit(params, inputs, targets, 2)
        loop = self._loops[key]
        if loop is None:
            loop = StaticLoop(self.editor, forward, params, inputs, targets)
            replay = self.graphs.capture(loop.step, "edits")
            if replay is None:
                self._loops.clear()
                return self.editor.edit_many(forward, params, inputs, asked)
            loop.run_step = replay
            self._loops[key] = loop
        return loop(params, inputs, targets, label_range(asked))


class StaticLoop:
    """The loop of E edits in buffers; :meth:`step` reads and writes them alone and is what a graph records.

    Args:
        editor: Makes the edits.
        forward: As for :meth:`BaseEditor.edit_many`; so are the others, which show the shapes.
        params: Where edits begin, by name.
        inputs: Edited samples, [E, N, ...] or a tuple of such.
        targets: Labels, int64 [E, N].

    Attributes:
        run_step: What runs a step, at first :meth:`step` itself.
    """

    def __init__(
        self, editor: Editor, forward: ForwardFunction, params: Mapping[str, Tensor], inputs: Inputs, targets: Tensor
    ) -> None:
        number = len(targets)
        self.editor, self.num_classes = editor, 0
        self.run_step: Callable[[], object] = self.step
        map_edits = map_single if number == 1 else torch.func.vmap

        def counted(inputs: Inputs, params: Mapping[str, Tensor]) -> Tensor:
            logits = forward(inputs, params)
            self.num_classes = logits.shape[-1]
            return logits

        self._objective = map_edits(editor._loss_function(counted, (0, 0)))  # labels are looked at in __call__
        self._init, self._update = map_edits(editor._init), map_edits(editor._update)
        given = (_spread(params, number), match_precision(inputs, params, False), targets)
        with inner_loop(targets.device, False):
            self.state = tree_map(_copied, self._init(given[0]))
        self.current, self.inputs, self.targets = tree_map(_copied, given)
        self.loss = next(iter(self.current.values())).new_zeros(number)
        self.success = torch.zeros(number, dtype=torch.bool, device=targets.device)
        self.num_steps = torch.zeros(number, dtype=torch.int64, device=targets.device)

    def step(self) -> None:
        """Look at the objective, and make a step of the edits that have not met it."""
        with inner_loop(self.targets.device, False):
            leaves = {name: value.detach().requires_grad_() for name, value in self.current.items()}
            loss, success = self._objective(leaves, self.inputs, self.targets)
            moved = self._update(gradients_of(loss, leaves, False), self.state, leaves)
            before = (self.current, self.state)
            after = tree_map(partial(keep_where, success), moved, before)
            _write((*before, self.loss, self.success), (*after, loss, success))
            self.num_steps.add_(~success)

    def __call__(
        self, params: Mapping[str, Tensor], inputs: Inputs, targets: Tensor, span: tuple[int, int]
    ) -> EditResult:
        """Make E edits of the shapes given before; once a step, the host asks whether all have succeeded.

        Args:
            params: As before, and so are the others.
            inputs: Of these edits.
            targets: Of these edits.
            span: The lowest and highest of all targets.
        """
        if self.num_classes:
            require_classes(*span, self.num_classes)
        current = _spread(params, len(targets))
        with inner_loop(targets.device, False):
            state = self._init(current)
        given = (current, state, match_precision(inputs, params, False), targets)
        _write((self.current, self.state, self.inputs, self.targets), given)
        self.num_steps.zero_()
        for _ in range(self.editor.max_steps):
            self.run_step()
            if bool(self.success.all()):
                break
        else:
            with inner_loop(targets.device, False):
                _write((self.loss, self.success), self._objective(self.current, self.inputs, self.targets))
        return tree_map(_copied, EditResult(self.current, self.loss, self.success, self.num_steps))


def _spread(params: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    return {name: param.detach().expand(number, *param.shape) for name, param in params.items()}


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()


def _write(buffers: Any, values: Any) -> None:
    with torch.no_grad():
        tree_map(torch.Tensor.copy_, buffers, values)  # by key, for dicts may come in another order
