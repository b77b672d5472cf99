"""Any of torchvision's image classifiers, by name."""

from difflib import get_close_matches

import torch
from torch import nn
from torchvision import models

from editable.errors import UserError, require_width

__all__ = ["torchvision_model"]


def torchvision_model(name: str, weights: str | None = None, num_classes: int | None = None) -> nn.Module:
    """Build one of torchvision's image classifiers.

    Where pretrained weights have another number of classes than asked for, the classifier, which is the last linear
    or convolutional layer of the network, is replaced by one with random weights.

    Args:
        name: The model's name in torchvision, such as ``resnet18`` or ``densenet169``.
        weights: The name of pretrained weights, such as ``IMAGENET1K_V1``, or ``DEFAULT`` for the best available;
            None for random weights. They are downloaded once.
        num_classes: Number of classes; None for that of the weights, or for torchvision's default of 1000.

    Returns:
        The network, taking ``[N, 3, H, W]`` and returning logits ``[N, num_classes]`` in evaluation mode.

    Raises:
        UserError: If the name, the weights or the number of classes is not possible, or the download fails.
    """
    _check_choice("model", name, models.list_models(module=models))
    require_width(num_classes=num_classes)
    if weights is None:
        return models.get_model(name) if num_classes is None else models.get_model(name, num_classes=num_classes)
    known = models.get_model_weights(name).__members__
    _check_choice(f"weights of {name}", weights, list(known))
    network = _download(name, known[weights])
    if num_classes is not None and num_classes != len(known[weights].meta["categories"]):
        _replace_classifier(network, num_classes)
    return network


def _check_choice(what: str, value: str, choices: list[str]) -> None:
    if value in choices:
        return
    near = get_close_matches(value, choices, n=5) or choices[:5]
    raise UserError(f"torchvision has no {what} {value!r}: choose among its {len(choices)}, such as {', '.join(near)}")


def _download(name: str, weights: models.WeightsEnum) -> nn.Module:
    try:
        return models.get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:  # no connection; a file with another checksum than announced
        folder = f"{torch.hub.get_dir()}/checkpoints"
        raise UserError(
            f"cannot download the weights {weights.name} of {name} ({error}): put {weights.url} into {folder}, or "
            "leave weights out"
        ) from error


def _replace_classifier(network: nn.Module, num_classes: int) -> None:
    candidates = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    name, old = candidates.popitem()
    if isinstance(old, nn.Linear):
        new: nn.Module = nn.Linear(old.in_features, num_classes, bias=old.bias is not None)
    else:  # SqueezeNet classifies by a 1×1 convolution before pooling
        new = nn.Conv2d(old.in_channels, num_classes, old.kernel_size, bias=old.bias is not None)  # type: ignore[arg-type]
    network.set_submodule(name, new)
