"""A classifier without its classifier: the features that its last linear layer reads."""

from collections.abc import Sequence

from torch import nn
from torchvision.transforms import v2

from editable.errors import UserError, require_normalisation
from editable.models.weights import load_weights

__all__ = ["feature_network"]


def feature_network(
    network: nn.Module,
    weights: str | None = None,
    classifier: str = "fc",
    mean: Sequence[float] = (0.5,),
    std: Sequence[float] = (0.5,),
) -> nn.Module:
    """Let a classifier return what its last layer reads, by putting the identity in that layer's place.

    Args:
        network: The classifier, from normalised images [N, C, H, W] to logits; it is changed.
        weights: Weights of the classifier, a ``.safetensors`` file or a checkpoint of tensors.
        classifier: The name of the layer that gives the logits.
        mean: Mean that its images were normalised with, for each channel or all of them, on a scale of 0 to 1.
        std: Standard deviation that its images were normalised with.

    Returns:
        A network from images in [−1, 1] to features [N, F].

    Raises:
        UserError: If the weights do not fit, or there is no such layer.
    """
    require_normalisation(mean, std)
    if weights is not None:
        load_weights(network, weights)
    if classifier not in dict(network.named_modules()) or not classifier:
        names = ", ".join(name for name, module in network.named_modules() if isinstance(module, nn.Linear))
        raise UserError(
            f"{type(network).__name__} has no layer '{classifier}' to take features from: its linear layers are "
            f"{names or 'none'}"
        )
    network.set_submodule(classifier, nn.Identity())
    # From x in [−1, 1]: ((x + 1) / 2 − mean) / std.
    return nn.Sequential(v2.Normalize([2 * value - 1 for value in mean], [2 * value for value in std]), network)
