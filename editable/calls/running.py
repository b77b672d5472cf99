"""A network run on images as they are given, in evaluation mode."""

import torch
from torch import Tensor, nn

from editable.errors import UserError
from editable.models import evaluation_mode, logits_of

__all__ = ["logits_on"]


@torch.no_grad()
def logits_on(network: nn.Module, images: Tensor) -> Tensor:
    """Return a network's logits [N, classes] of images [N, C, H, W], on the CPU.

    The images are brought to the device and the data type of the network's parameters.

    Raises:
        UserError: If the network cannot take images of this size.
    """
    first = next(network.parameters())
    with evaluation_mode(network):
        try:
            output = network(images.to(first.device, first.dtype))
        except (RuntimeError, ValueError) as error:  # whatever a network raises on another size
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"{type(network).__name__} cannot take images {list(images.shape[1:])} ({reason})"
            ) from error
    return logits_of(output).cpu()
