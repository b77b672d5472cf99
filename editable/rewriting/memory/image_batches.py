"""Batches of images as a data loader gives them, for a network that only looks at the images."""

from typing import Any

import torch
from torch import Tensor

from editable.errors import UserError
from editable.models.machine.devices import to_device

__all__ = ["images_of"]


def images_of(batch: Any, device: torch.device) -> Tensor:
    """Return the images of a batch, on a device.

    Args:
        batch: Images [N, …], or a tuple or list that begins with them, such as images and labels.
        device: Where the images are wanted.

    Raises:
        UserError: If it is something else.
    """
    images = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if not isinstance(images, Tensor):
        raise UserError(
            f"a batch must be images [N, C, H, W], or a tuple that begins with them, got {type(images).__name__}"
        )
    return to_device(images, device)
