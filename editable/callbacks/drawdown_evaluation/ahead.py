"""What is looked at before edits are evaluated, and hours before where a training comes first."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from editable.callbacks.run.context import datamodule_of, network_of
from editable.callbacks.run.edit_loop import whole_loader
from editable.data import EditStream
from editable.editing import split_for
from editable.errors import UserError
from editable.models import SplitNetwork, select_parameters
from editable.models.selection import is_quantised
from editable.models.sharded import is_sharded
from editable.models.split.split_network import require_splittable

__all__ = ["check_edits", "check_network"]


def check_network(pl_module: LightningModule, editor: Any, layers: Sequence[str] | None, resumed: bool) -> None:
    """Raise a :class:`UserError` where a task's network cannot be edited.

    Args:
        pl_module: The task.
        editor: What makes the edits; none where neither the user nor the task names one.
        layers: Which parameters they may change; likewise.
        resumed: Whether the evaluation goes on from another one.
    """
    if editor is None:
        raise UserError(
            f"{type(pl_module).__name__} brings no editor: name one in evaluation.editor, "
            "or set evaluation.num_edits to 0"
        )
    if layers is None:
        raise UserError(
            f"{type(pl_module).__name__} brings no editable layers: name them in evaluation.editable_layers, "
            "such as [layer3], or set evaluation.num_edits to 0"
        )
    network = network_of(pl_module)
    require_splittable(network)
    if is_sharded(network) and resumed:
        raise UserError("evaluation.resume: where processes share the parameters out, nothing is kept to go on from")
    if editor.own_layers is not None or is_sharded(network):
        split_for(editor, network, layers)
        return
    select_parameters(network, layers)  # raises for names that match nothing
    if any(map(is_quantised, network.modules())):
        SplitNetwork(network, layers).require_gradients()


def check_edits(trainer: Trainer, edits: EditStream, dataloaders: Any, option: str, number: int) -> None:
    """Raise a :class:`UserError` where edits cannot be had of some images, whatever the network makes of them.

    Args:
        trainer: Of the run.
        edits: Which input gets which label.
        dataloaders: Of the images.
        option: Where the number of edits is said, ...
        number: ... and the number.
    """
    dataset: Any = whole_loader(dataloaders).dataset
    most = edits.bind(dataset, getattr(datamodule_of(trainer), "classes", None)).most_edits(len(dataset))
    if most is not None and number > most:
        raise UserError(f"{option} is {number}, but must be from 1 to {most}, the number of inputs")
