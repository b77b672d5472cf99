"""The least of an edit that is enough: how far to go from the parameters before it to those after it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from editable.editing.editors.base import BaseEditor, ForwardFunction, Inputs, check_edit, match_precision
from editable.editing.editors.objective import is_predicted
from editable.editing.editors.result import EditResult
from editable.editing.editors.wrapper import EditorWrapper
from editable.errors import UserError, require_at_least

__all__ = ["StrengthSearch"]

INNER = "editor."
"""Begins the names of the wrapped editor's tensors in the state."""


class StrengthSearch(EditorWrapper):
    r"""Makes another editor's edit only as strong as it must be, :math:`θ_0 + α(θ_1 - θ_0)` with the least α.

    α in (0, 1] is found by bisection, to 2^{-num_halvings}: at it every edited sample has its label, strictly above all
    others and by the margin, and just below it one has not. Where the samples lose and win their labels several times
    on the way from θ₀ to θ₁ it is one such α, not surely the least of all. An edit that fails is left as it is; one
    whose samples have their labels at θ₀ becomes none. (Linear interpolation of weights: Ilharco et al., "Patching
    open-vocabulary models by interpolating weights", NeurIPS 2022.)

    In a stream θ₀ is what the last edit has left, and besides the latest samples all earlier ones that have their
    labels at θ₁ keep them; the state holds them.

    Args:
        editor: Whose edits are made weaker; it is asked for strict success. One that changes the shapes of parameters,
            as a codebook's, has nothing between θ₀ and θ₁.
        margin: By how much, in nats, each label has to lead all others; what the wrapped edit leads by, or less.
        num_halvings: How often the range of α is halved; each takes one forward pass.

    Raises:
        UserError: If a number is out of its range, or, when an edit is made, parameters change their shapes.
    """

    def __init__(self, editor: BaseEditor, margin: float = 0.0, num_halvings: int = 10) -> None:
        super().__init__(editor.with_strict_success(), margin)
        require_at_least(1, num_halvings=num_halvings)
        self.num_halvings = num_halvings
        self.objective.strict = True

    def forward(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        differentiable: bool = False,
    ) -> EditResult:
        """Make one edit; see :meth:`BaseEditor.forward`. It cannot be differentiated."""
        _require_plain(differentiable)
        targets = check_edit(params, inputs, targets)
        result = self.editor(forward, params, inputs, targets)
        return self._weaken(forward, params, result, match_precision(inputs, params, differentiable=False), targets)

    def edit_many(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        differentiable: bool = False,
    ) -> EditResult:
        """Make E edits as the wrapped editor does, and weaken each; see :meth:`BaseEditor.edit_many`."""
        _require_plain(differentiable)
        targets = check_edit(params, inputs, targets, 2)
        together = self.editor.edit_many(forward, params, inputs, targets)
        inputs = match_precision(inputs, params, differentiable=False)
        results = []
        for edit, target in enumerate(targets):
            samples = inputs[edit] if isinstance(inputs, Tensor) else tuple(some[edit] for some in inputs)
            strong = {name: param[edit] for name, param in together.params.items()}
            result = EditResult(strong, *(field[edit] for field in together[1:]))
            results.append(self._weaken(forward, params, result, samples, target))
        return together._replace(
            params={name: torch.stack([result.params[name] for result in results]) for name in params},
            loss=torch.stack([result.loss for result in results]),
        )

    def extend(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        state: Mapping[str, Tensor],
    ) -> tuple[EditResult, dict[str, Tensor]]:
        """Make the next edit of a stream, no stronger than it must be; see :meth:`BaseEditor.extend`."""
        targets = check_edit(params, inputs, targets)
        inner = {name.removeprefix(INNER): some for name, some in state.items() if name.startswith(INNER)}
        result, following = self.editor.extend(forward, params, inputs, targets, inner)
        matched = match_precision(inputs, params, differentiable=False)
        own = (matched,) if isinstance(matched, Tensor) else matched
        samples = tuple(torch.cat([state[f"input{place}"], some]) if state else some for place, some in enumerate(own))
        asked = torch.cat([state["targets"], targets]) if state else targets
        result = self._weaken(
            forward, params, result, samples[0] if isinstance(matched, Tensor) else samples, asked, len(targets)
        )
        kept = {f"input{place}": some for place, some in enumerate(samples)}
        return result, {**{INNER + name: some for name, some in following.items()}, **kept, "targets": asked}

    @torch.no_grad()
    def _weaken(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        result: EditResult,
        inputs: Inputs,
        targets: Tensor,
        num_latest: int | None = None,
    ) -> EditResult:
        """Return a result made as weak as it may be, so that what has its label keeps it.

        Args:
            forward: As in :meth:`forward`.
            params: θ₀.
            result: The strong edit.
            inputs: Of the latest edit, behind those of earlier ones.
            targets: Theirs, int64 [N].
            num_latest: How many belong to the latest edit; all by default.
        """
        self._check_shapes(params, result)
        latest = slice(-(num_latest or len(targets)), None)
        strong = self._holding(forward(inputs, result.params), targets)
        if not bool(strong[latest].all()):
            return result
        low, high = 0.0, 1.0
        weak = {name: param.detach().clone() for name, param in params.items()}
        logits = forward(inputs, weak)
        if bool((self._holding(logits, targets) | ~strong).all()):
            high = 0.0  # nothing was to be changed
        edited = weak if high == 0 else result.params
        for _ in range(self.num_halvings if high else 0):
            middle = (low + high) / 2
            between = {name: param + middle * (result.params[name] - param) for name, param in weak.items()}
            if bool((self._holding(forward(inputs, between), targets) | ~strong).all()):
                high, edited = middle, between
            else:
                low = middle
        logits = forward(inputs, edited)[latest]
        return result._replace(params=edited, loss=self.objective(logits, targets[latest]))

    def _holding(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return which samples have their labels, strictly and by the margin, bool [N]."""
        others = logits.scatter(1, targets[:, None], -torch.inf).amax(dim=1)
        leads = logits.gather(1, targets[:, None]).flatten() - others
        return is_predicted(logits, targets) & (leads >= self.margin)

    def _check_shapes(self, params: Mapping[str, Tensor], result: EditResult) -> None:
        for name, param in params.items():
            if param.shape != result.params[name].shape:
                raise UserError(
                    f"StrengthSearch goes from the weights before an edit to those after it, but {self._kind} changes "
                    f"the shape of '{name}' from {list(param.shape)} to {list(result.params[name].shape)}: use it alone"
                )

    @property
    def _kind(self) -> str:
        return type(self.editor).__name__


def _require_plain(differentiable: bool) -> None:
    if differentiable:
        raise UserError("StrengthSearch cannot be differentiated: train with the editor that it wraps")
