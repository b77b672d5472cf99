"""An editor at its place in a run: with reference images for what it needs besides the samples of an edit."""

from collections.abc import Iterable
from functools import partial

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from editable.callbacks.run.context import image_data
from editable.editing import BaseEditor, EditSite
from editable.models import SplitNetwork

__all__ = ["place", "training_images"]


def place(
    editor: BaseEditor, split: SplitNetwork, references: Dataset, batch_size: int, device: torch.device
) -> BaseEditor:
    """Return an editor at its place; see :meth:`BaseEditor.at`.

    Args:
        editor: The editor.
        split: The network, furnished and split for it.
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
