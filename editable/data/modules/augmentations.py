"""Named augmentations of training images, on uint8 or float images ``[C, H, W]``."""

from torch import nn
from torchvision.transforms import v2

from editable.errors import UserError

__all__ = ["ALTERNATING", "AUGMENTATIONS", "make_augmentation", "make_erasure"]

AUGMENTATIONS = ("none", "shift", "crop_flip", "shift_flip", "resized_crop_flip", "trivial_augment", "rand_augment")
"""The names that :func:`make_augmentation` knows."""

ALTERNATING = ("shift_flip",)
"""Those whose training images are mirrored in every other epoch, in place of at random."""

ERASED = 0.1
"""Part of the images of ``trivial_augment`` that a rectangle is erased of."""


def make_augmentation(name: str, size: tuple[int, int], resize: nn.Module, alternating: bool = False) -> nn.Module:
    """Build the random transform that a training image goes through.

    ``none``: ``resize`` alone. ``shift``: ``resize``, then a random crop with padding 1. ``crop_flip``: ``resize``,
    then a random crop with padding 4 and a horizontal flip for every other image (the usual one for CIFAR).
    ``shift_flip``: ``resize``, then a shift by up to two pixels, the edges reflected, and the flip; in training, every
    image is mirrored in every other epoch (:class:`~editable.data.modules.training_order.AugmentedImages`), for in a
    short run chance would show many an image in one of the two ways too often (Jordan, 2024, arXiv:2404.00498).
    ``resized_crop_flip``: a random crop of random scale and aspect, resized, and the flip (the usual one for
    ImageNet); it takes the place of ``resize``. ``trivial_augment``: the same, then one random change of colour or
    shape (Müller and Hutter, ICCV 2021); :func:`make_erasure` goes with it (torchvision's recipe for its second weights
    of a ResNet-50). ``rand_augment``: the same with two changes of middle strength (Cubuk et al., 2020; torchvision's
    recipe for its vision transformers).

    Args:
        name: one of :data:`AUGMENTATIONS`.
        size: height and width of the images that come out, in pixels.
        resize: what brings a stored image to ``size`` for evaluation.
        alternating: leave out the flip of :data:`ALTERNATING`, which somebody else does.

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
    if name == "shift_flip":
        shift = v2.RandomCrop(size, padding=2, padding_mode="reflect")
        return v2.Compose([resize, shift] if alternating else [resize, shift, v2.RandomHorizontalFlip()])
    cropped = [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()]
    if name == "resized_crop_flip":
        return v2.Compose(cropped)
    if name == "trivial_augment":
        return v2.Compose([*cropped, v2.TrivialAugmentWide()])
    if name == "rand_augment":
        return v2.Compose([*cropped, v2.RandAugment()])
    raise UserError(f"The augmentation {name!r} is unknown: choose one of {', '.join(AUGMENTATIONS)}.")


def make_erasure(name: str) -> nn.Module:
    """Build what erases a random rectangle of a normalised training image: sets it to 0, which is the mean.

    Args:
        name: of the augmentation; nothing is erased but by ``trivial_augment``, of every tenth image (Zhong et al.,
            AAAI 2020).

    Returns:
        The transform, image ``[C, H, W]`` to image of the same shape.
    """
    return v2.RandomErasing(p=ERASED) if name == "trivial_augment" else v2.Identity()
