"""What all editors share: the contract of an Edit operation and the conditions under which its inner loop runs."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from editable.editing.editors.configuration import configuration_of
from editable.editing.editors.objective import MarginObjective
from editable.editing.editors.result import EditResult
from editable.editing.editors.site import EditSite
from editable.errors import UserError, require_at_least
from editable.models.logits import require_logits
from editable.models.machine.devices import to_device
from editable.models.machine.full_precision import full_precision

__all__ = ["BaseEditor", "ForwardFunction", "Inputs"]

Inputs: TypeAlias = Tensor | tuple[Tensor, ...]
"""What a network, or its suffix, reads: one tensor or several, each with the samples in its first dimension."""

ForwardFunction: TypeAlias = Callable[..., Tensor]
"""``forward(inputs, params) -> logits [N, C]``, such as :meth:`editable.models.SplitNetwork.suffix`."""


class BaseEditor(nn.Module, ABC):
    """Edit(θ, l_e, k): change θ step by step until l_e ≤ 0, at most k times (Sinitsin et al., ICLR 2020).

    The edit is out of place: the given parameters are never written to. The objective is looked at before each update
    and once after the last, so that k updates see k + 1 evaluations.

    Args:
        max_steps: k, the largest number of updates.
        margin: By how much, in nats, the asked label has to lead all others.

    Raises:
        UserError: If a number is negative.

    Attributes:
        own_layers: Which parameters of the furnished network it changes; none leaves that to whoever makes the edit.

    See Also:
        :class:`~editable.editing.MarginObjective`, the objective l_e.
    """

    own_layers: tuple[str, ...] | None = None

    def __init__(self, max_steps: int = 10, margin: float = 0.0) -> None:
        super().__init__()
        require_at_least(0, max_steps=max_steps)
        self.max_steps = max_steps
        self.objective = MarginObjective(margin)

    @abstractmethod
    def forward(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        differentiable: bool = False,
    ) -> EditResult:
        """Make one edit.

        Args:
            forward: ``forward(inputs, params) -> logits [N, C]``.
            params: The parameters that the edit may change, by name.
            inputs: The N edited samples, usually one: a tensor [N, ...] or a tuple of such.
            targets: The labels asked for, integers of shape [N] in a tensor, array or list; a single one is asked of
                all samples.
            differentiable: Keep the graph through all steps, so that the result can be differentiated with respect
                to ``params``, ``inputs`` and the editor's own constants; otherwise the result carries no graph.

        Raises:
            UserError: If targets are no labels, or not classes of the network, if there is nothing to edit, the output
                has not the shape of logits, or in inference mode.
        """

    def edit_many(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        differentiable: bool = False,
    ) -> EditResult:
        """Make E independent edits, each from the same parameters; here one after the other.

        Args:
            forward: ``forward(inputs, params) -> logits [N, C]`` for one edit.
            params: The parameters that every edit starts from, by name, without the dimension E.
            inputs: Edited samples, [E, N, ...] or a tuple of such.
            targets: The labels asked for, integers of shape [E, N], or [E] for those of all samples of each edit.
            differentiable: As in :meth:`forward`.

        Returns:
            The result with a leading dimension E.

        Raises:
            UserError: As :meth:`forward`.
        """
        targets = check_edit(params, inputs, targets, 2)
        results = []
        for edit, target in enumerate(targets):
            sample = inputs[edit] if isinstance(inputs, Tensor) else tuple(tensor[edit] for tensor in inputs)
            results.append(self(forward, params, sample, target, differentiable))
        return EditResult(
            self._stack([result.params for result in results]),
            torch.stack([result.loss for result in results]),
            torch.stack([result.success for result in results]),
            torch.stack([result.num_steps for result in results]),
        )

    def prepare(self, params: Mapping[str, Tensor]) -> None:
        """Make the constants that it learns for parameters, by their shapes, before it is trained; here none.

        Args:
            params: The parameters that edits may change, by name.

        Raises:
            UserError: If it cannot change them.
        """

    def furnish(self, network: nn.Module) -> nn.Module:
        """Give a network the layer of its own kind that the editor needs; here none.

        Args:
            network: A copy, which may be changed. What it computes must stay as it is.

        Returns:
            The network.
        """
        return network

    def at(self, site: EditSite) -> "BaseEditor":
        """Return the editor as it works at a place, with what it needs of it, such as second moments; here itself.

        Args:
            site: The furnished network, split, with reference images.

        Raises:
            UserError: If it cannot work there.
        """
        return self

    def extend(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        state: Mapping[str, Tensor],
    ) -> tuple[EditResult, dict[str, Tensor]]:
        """Make the next edit of a stream: on top of all earlier ones, which shall hold on.

        Here it is an edit from where the last one has left the parameters. An editor that does more remembers what
        it needs in a state, of tensors alone, so that a stream can be interrupted and gone on with bit by bit.

        Args:
            forward: As in :meth:`forward`.
            params: The parameters as the last edit has left them; before the first, the network's own.
            inputs: The samples of this edit alone, as in :meth:`forward`.
            targets: The labels asked for, as in :meth:`forward`.
            state: As the last edit has left it; before the first, empty.

        Returns:
            The result, of which loss and success are those of this edit alone, and the state; neither shares memory
            with the network.
        """
        return self(forward, params, inputs, targets), {}

    def rank_of_change(self, num_samples: int) -> int | None:
        """Return the highest rank that one edit's change of a linear layer's weight can have; here it is not known.

        Whatever scores many edits can use it where it is low: W + UVᵀ costs U(Vᵀh). A stream's change has at most the
        sum of its edits'.

        Args:
            num_samples: N, the samples of the edit; of each, the layer reads one vector.

        Returns:
            The rank, or none where it may be as high as the weight's shape allows.
        """
        return None

    @property
    def margin(self) -> float:
        """By how much, in nats, the asked label has to lead all others."""
        return self.objective.margin

    def with_strict_success(self) -> "BaseEditor":
        """Return the editor with edits that succeed only where each label is predicted, strictly above all others.

        It shares all else with this one. By the published rule, which edits follow else, a tie is a success.
        """
        editor = copy.copy(self)  # what it is bound to, such as a place, stays the same object
        editor.objective = MarginObjective(self.margin, strict=True)
        return editor

    def with_learning_rate(self, learning_rate: float) -> "BaseEditor":
        """Return a copy of this editor with another learning rate, which is no longer learnt.

        Raises:
            UserError: If the learning rate is not positive, or, as here, if the editor is not known to have one.
        """
        raise UserError(
            f"the learning rate of {type(self).__name__} cannot be set: use Editor with an update rule or HigherEditor "
            "with an optimizer, or define with_learning_rate"
        )

    def configuration(self) -> dict[str, Any]:
        """Return class path and arguments that make this editor again; see :func:`configuration_of`.

        Raises:
            UserError: If it cannot be written into a configuration file.
        """
        return configuration_of(self)

    def description(self) -> Any:
        """Return its configuration; of an editor that has none, what it looks like."""
        try:
            return self.configuration()
        except UserError:
            return repr(self)

    def _refuse_differentiable(self, differentiable: bool) -> None:
        """Raise a :class:`UserError` where an editor without gradients is asked to keep the graph."""
        if differentiable:
            raise UserError(f"{type(self).__name__} cannot be differentiated: train with Editor and an update rule")

    def _stack(self, params: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the parameters of E edits with a leading dimension E.

        Of layers to which edits add rows, an edit that has fewer gets rows of zeros, which do nothing, behind its own.
        """
        return {name: _stacked([own[name] for own in params]) for name in params[0]}

    def _loss_function(self, forward: ForwardFunction, span: tuple[int, int]) -> Callable[..., tuple[Tensor, Tensor]]:
        """Return ``l_e(params, inputs, targets)`` with whether the edit has succeeded.

        The range of all targets, ``span``, is known, for it cannot be read inside of a transform.
        """

        def loss_function(params: dict[str, Tensor], inputs: Inputs, targets: Tensor) -> tuple[Tensor, Tensor]:
            logits = forward(inputs, params)
            require_logits(logits, targets.shape[0])
            require_classes(*span, logits.shape[-1])
            loss = self.objective(logits, targets)
            return loss, self.objective.is_met(loss, logits, targets)

        return loss_function

    def extra_repr(self) -> str:
        """Show k and the objective."""
        return f"max_steps={self.max_steps}, objective={self.objective}"


def check_edit(params: Mapping[str, Tensor], inputs: Inputs, targets: Any, dimensions: int = 1) -> Tensor:
    """Raise a :class:`UserError` where an edit cannot be made, before anything is computed.

    Args:
        params: The parameters that the edit may change.
        inputs: The edited samples.
        targets: What is given as the labels asked for.
        dimensions: Of the labels: 1 for one edit [N], 2 for several [E, N].

    Returns:
        The labels, int64, for each sample, where the inputs are.
    """
    if torch.is_inference_mode_enabled():
        raise UserError(
            "an edit needs gradients, but inference mode is on; use Trainer(inference_mode=False), or torch.no_grad()"
        )
    if not params:
        raise UserError("an edit needs at least one parameter that it may change, got none")
    if not isinstance(inputs, Tensor) and not inputs:
        raise UserError("an edit needs at least one sample with a label, got none")
    first = inputs if isinstance(inputs, Tensor) else inputs[0]
    return _labels(targets, first.shape[:dimensions], first.device)


def label_range(labels: Any) -> tuple[int, int]:
    """Return the lowest and highest of at least one label; those that lie on the CPU are read without any wait."""
    lowest, highest = torch.stack(torch.as_tensor(labels).aminmax()).tolist()
    return lowest, highest


def require_classes(lowest: int, highest: int, num_classes: int) -> None:
    """Raise a :class:`UserError` unless the lowest and highest of the labels asked for are classes of the network."""
    if lowest < 0 or highest >= num_classes:
        wrong = lowest if lowest < 0 else highest
        raise UserError(f"label {wrong} was asked for, but the network's classes are 0 … {num_classes - 1}")


def _labels(targets: Any, shape: torch.Size, device: torch.device) -> Tensor:
    """Return labels as integers of a shape; those for all samples of an edit are given to each."""
    try:
        labels = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"labels are integers, such as 3 or [3, 5], got {targets!r}") from error
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        if labels.numel():
            raise UserError(f"labels are integers, such as 3 or [3, 5], got {labels.tolist()} of type {labels.dtype}")
        labels = labels.long()
    if labels.numel() == 0 or 0 in shape:
        raise UserError("an edit needs at least one sample with a label, got none")
    spread = to_device(labels, device, torch.int64)
    while spread.ndim < len(shape):
        spread = spread.unsqueeze(-1).expand(*spread.shape, shape[spread.ndim])
    if spread.shape != shape:
        raise UserError(
            f"there are labels of shape {list(labels.shape)} for samples of shape {list(shape)}: give one for each"
        )
    return spread


def _stacked(tensors: list[Tensor]) -> Tensor:
    """Stack tensors, with zeros behind those that have fewer rows."""
    if all(some.shape == tensors[0].shape for some in tensors):
        return torch.stack(tensors)
    rows = max(map(len, tensors))
    return torch.stack([torch.cat([some, some.new_zeros(rows - len(some), *some.shape[1:])]) for some in tensors])


@contextmanager
def inner_loop(device: torch.device, differentiable: bool, autocast: bool = False) -> Iterator[None]:
    """Set the conditions of an inner loop: gradients on, autocast and TF32 off, attention with a double backward.

    With ``autocast``, precision stays as it is around the loop.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        if not autocast:
            stack.enter_context(torch.autocast(device.type, enabled=False))
            stack.enter_context(full_precision())
        if differentiable:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


def match_precision(inputs: Inputs, params: Mapping[str, Tensor], differentiable: bool) -> Inputs:
    """Give inputs of lower precision (from an autocast prefix) the parameters' own; drop their graph if unwanted."""
    dtype = next(iter(params.values())).dtype

    def match(tensor: Tensor) -> Tensor:
        tensor = tensor.to(dtype) if tensor.is_floating_point() else tensor
        return tensor if differentiable else tensor.detach()

    return match(inputs) if isinstance(inputs, Tensor) else tuple(match(tensor) for tensor in inputs)
