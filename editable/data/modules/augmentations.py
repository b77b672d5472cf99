"""Named augmentations of training images, on uint8 or float images ``[C, H, W]`` before normalisation."""

from torch import nn
from torchvision.transforms import v2

from editable.errors import UserError

__all__ = ["AUGMENTATIONS", "make_augmentation"]

AUGMENTATIONS = ("none", "shift", "crop_flip", "resized_crop_flip")
"""The names that :func:`make_augmentation` knows."""


def make_augmentation(name: str, size: tuple[int, int], resize: nn.Module) -> nn.Module:
    """Build the random transform that a training image goes through.

    ``none``: ``resize`` alone. ``shift``: ``resize``, then a random crop with padding 1. ``crop_flip``: ``resize``,
    then a random crop with padding 4 and a horizontal flip for every other image (the usual one for CIFAR).
    ``resized_crop_flip``: a random crop of random scale and aspect, resized, and the flip (the usual one for
    ImageNet); it takes the place of ``resize``.

    Args:
        name: one of :data:`AUGMENTATIONS`.
        size: height and width of the images that come out, in pixels.
        resize: what brings a stored image to ``size`` for evaluation.

    Returns:
        The transform, image ``[C, H', W']`` to image ``[C, *size]``.

    Raises:
        UserError: the name is unknown.
    """
    if name == "none":
        return resize
    if name == "shift":
        return v2.Compose([resize, v2.RandomCrop(size, padding=1)])
    if name == "crop_flip":
        return v2.Compose([resize, v2.RandomCrop(size, padding=4), v2.RandomHorizontalFlip()])
    if name == "resized_crop_flip":
        return v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()])
    raise UserError(f"The augmentation {name!r} is unknown: choose one of {', '.join(AUGMENTATIONS)}.")
