"""What no change of a layer can give: a label to what is not finite, or two labels to the same features."""

import torch
from torch import Tensor

from editable.editing.linear.linear_layer import require_finite_samples
from editable.errors import UserError

__all__ = ["check_samples"]


def check_samples(features: Tensor, labels: Tensor) -> None:
    """Raise a :class:`UserError` where no change of a layer that reads these features gives all the labels.

    Args:
        features: What a layer reads of the N edited samples, [N, d].
        labels: Asked for, int64 [N].

    Raises:
        UserError: If a sample's features are NaN or infinite, or samples that are the same are to get two labels.
    """
    require_finite_samples(features, "what the edited layer reads")
    _, group = features.unique(dim=0, return_inverse=True)
    contradicting = (group[:, None] == group) & (labels[:, None] != labels)
    if contradicting.any():
        first, second = (int(number) for number in torch.nonzero(contradicting)[0])
        raise UserError(
            f"label {int(labels[first])} and label {int(labels[second])} are asked of samples number {first} and "
            f"{second}, which are the same to the edited layer: ask for one of them"
        )
