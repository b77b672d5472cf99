"""A network split for an editor: where it changes layers of the network, or in a copy with a layer of its own."""

import copy
from collections.abc import Sequence

from torch import nn

from editable.editing.editors.base import BaseEditor
from editable.editing.editors.wrapper import EditorWrapper
from editable.errors import UserError
from editable.models import SplitNetwork
from editable.models.sharded import is_sharded
from editable.models.split.whole_layer import WholeLayer

__all__ = ["needs_place", "split_for"]


def needs_place(editor: BaseEditor) -> bool:
    """Return whether an editor asks for reference images, or for a layer of its own; one around another hands it on."""
    if isinstance(editor, EditorWrapper) and type(editor).at is EditorWrapper.at:
        return needs_place(editor.editor)
    return type(editor).at is not BaseEditor.at or editor.own_layers is not None


def split_for(editor: BaseEditor, network: nn.Module, layers: Sequence[str] | str | None) -> SplitNetwork:
    """Split a network for an editor; one that gets a layer of the editor's own is a copy.

    Args:
        editor: The editor.
        network: The network, which is not changed.
        layers: The editable layers of an editor that has none of its own; of a network whose parameters are shared out
            over processes its last layer, which is gathered, see `WholeLayer`.

    Raises:
        UserError: If the network cannot be split there, or processes share it out and the editor needs more than that.
    """
    if is_sharded(network):
        if editor.own_layers is not None:
            raise UserError(
                f"{type(editor).__name__} changes a layer of its own in a copy of the network, but processes share the "
                "parameters out: use trainer.strategy=ddp"
            )
        network = WholeLayer(network, layers or [])
    if editor.own_layers is None:
        return SplitNetwork(network, layers or [])
    return SplitNetwork(editor.furnish(copy.deepcopy(network)), list(editor.own_layers))
