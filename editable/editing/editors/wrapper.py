"""What editors share that wrap another one: they hand on what it needs, and stand for it."""

import copy
from typing import Any, Self

from torch import nn

from editable.editing.editors.base import BaseEditor
from editable.editing.editors.configuration import configuration_of
from editable.editing.editors.site import EditSite

__all__ = ["EditorWrapper"]


class EditorWrapper(BaseEditor):
    """An editor that changes how another one edits.

    Args:
        editor: The other one.
        margin: The wrapper's own; the other's by default.

    Attributes:
        editor: As given, or as it works at a place.
    """

    def __init__(self, editor: BaseEditor, margin: float | None = None) -> None:
        super().__init__(editor.max_steps, editor.margin if margin is None else margin)
        self.editor: BaseEditor = editor
        self.own_layers = editor.own_layers

    def furnish(self, network: nn.Module) -> nn.Module:
        """Give a network what the wrapped editor needs; see :meth:`BaseEditor.furnish`."""
        return self.editor.furnish(network)

    def at(self, site: EditSite) -> "EditorWrapper":
        """Return a copy around the editor as it works at a place; see :meth:`BaseEditor.at`."""
        return self._around(self.editor.at(site))

    def with_learning_rate(self, learning_rate: float) -> "EditorWrapper":
        """Return a copy around the editor with another learning rate; see :meth:`BaseEditor.with_learning_rate`."""
        return self._around(self.editor.with_learning_rate(learning_rate))

    def with_strict_success(self) -> "EditorWrapper":
        """Return a copy that is strict, around an editor that is; see :meth:`BaseEditor.with_strict_success`."""
        made = self._around(self.editor.with_strict_success())
        made.objective = copy.copy(self.objective)
        made.objective.strict = True
        return made

    def rank_of_change(self, num_samples: int) -> int | None:
        """Return the wrapped editor's; see :meth:`BaseEditor.rank_of_change`."""
        return self.editor.rank_of_change(num_samples)

    def configuration(self) -> dict[str, Any]:
        """Return class path and arguments, those of the wrapped editor among them."""
        return configuration_of(self, editor=self.editor.configuration())

    def _around(self, editor: BaseEditor) -> Self:
        """Return a copy around another editor."""
        made = copy.copy(self)
        made._modules = {**self._modules, "editor": editor}  # a shallow copy would share them with this one
        return made
