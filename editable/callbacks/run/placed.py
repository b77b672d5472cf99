"""An editor at its place: the network furnished and split for it, and reference images for what it needs besides."""

import copy
from collections.abc import Iterable, Sequence
from functools import partial

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from editable.callbacks.run.context import image_data
from editable.editing import BaseEditor, EditSite
from editable.models import SplitNetwork

__all__ = ["needs_place", "place", "split_for", "training_images"]


def needs_place(editor: BaseEditor) -> bool:
    """Return whether an editor asks for reference images, or for a layer of its own."""
    return type(editor).at is not BaseEditor.at or editor.own_layers is not None


def split_for(editor: BaseEditor, network: nn.Module, layers: Sequence[str] | str | None) -> SplitNetwork:
    """Split a network for an editor; one that gets a layer of the editor's own is a copy.

    Args:
        editor: The editor.
        network: The network, which is not changed.
        layers: The editable layers of an editor that has none of its own.
    """
    if editor.own_layers is None:
        return SplitNetwork(network, layers or [])
    return SplitNetwork(editor.furnish(copy.deepcopy(network)), list(editor.own_layers))


def place(
    editor: BaseEditor, split: SplitNetwork, references: Dataset, batch_size: int, device: torch.device
) -> BaseEditor:
    """Return an editor at its place; see :meth:`BaseEditor.at`.

    Args:
        editor: The editor.
        split: What :func:`split_for` has returned.
        references: Images that are neither edited nor judged; as many as the editor asks for are drawn by a fixed seed.
        batch_size: Number of images that are run at once.
        device: Where the network lives.
    """
    return editor.at(EditSite(split, partial(_batches, references, batch_size=batch_size), device))


def training_images(trainer: Trainer) -> Dataset:
    """Return the images of a run's data module that are neither edited nor scored, without augmentation."""
    return image_data(trainer, "an editor that needs reference images").unaugmented_training_images()


def _batches(dataset: Dataset, number: int, batch_size: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Return batches of some images, the same ones each time."""
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))[:number]  # type: ignore[arg-type]
    return DataLoader(Subset(dataset, order.sort().values.tolist()), batch_size=batch_size)
