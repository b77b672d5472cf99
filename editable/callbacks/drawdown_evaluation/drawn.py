"""The edited inputs as figures show them."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from editable.data import denormalise

__all__ = ["drawn_images"]

DRAWN = 24


def drawn_images(dataset: Dataset, indices: Tensor, datamodule: Any) -> Tensor:
    """Return the first edited images in [0, 1], [n, C, H, W], with the data module's normalisation taken back.

    Args:
        dataset: Items begin with an image.
        indices: Of the edited ones, int64 [E].
        datamodule: Of the run, which may not know its normalisation; images are brought into their range then.
    """
    images = torch.stack([torch.as_tensor(dataset[index][0]) for index in indices[:DRAWN].tolist()])
    mean, std = (getattr(datamodule, name, None) for name in ("mean", "std"))
    if mean is None or std is None:
        low, high = images.amin(), images.amax()
        return (images - low) / (high - low).clamp_min(1e-12)
    return denormalise(images, mean, std)
