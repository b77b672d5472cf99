"""Weights that no network can mean: NaN, infinity, and whole numbers where gradients are asked for."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from editable.errors import UserError
from editable.models.sharded import gathered

__all__ = ["check_weights"]


@torch.no_grad()
def check_weights(network: nn.Module, edited: Collection[str] = ()) -> None:
    """Refuse weights with which a network gives figures that look like figures, and mean nothing.

    A network with NaN has logits of NaN, of which the first class is the largest: an error rate like any other. Each
    tensor is looked at once, of one that processes share its parts by all of them, and the device is waited for once.
    Infinite values in a buffer are no fault: masks of attention have them.

    Args:
        network: The network.
        edited: Names of the parameters that gradients are asked for.

    Raises:
        UserError: If parameters were made in inference mode, one is NaN or infinite, a buffer NaN, or an edited
            parameter is no floating-point number.
    """
    parameters = dict(network.named_parameters())
    if any(_has_values(some) and some.is_inference() for some in parameters.values()):
        raise UserError(
            f"the parameters of {type(network).__name__} were made under torch.inference_mode(), where nothing can be "
            "edited: make or load it outside"
        )
    for name in edited:
        dtype = network.get_parameter(name).dtype
        if not dtype.is_floating_point:
            raise UserError(f"'{name}' holds {dtype} and cannot be edited: gradients need floating-point numbers")
    buffers = dict(network.named_buffers())
    right = {name: gathered(some.isfinite().all()) for name, some in parameters.items() if _has_values(some)}
    right |= {name: ~gathered(some.isnan().any()) for name, some in buffers.items() if _has_values(some)}
    device = next((flag.device for flag in right.values()), None)
    flags = torch.stack([flag.to(device) for flag in right.values()]).tolist() if right else []
    wrong = [name for name, is_right in zip(right, flags, strict=True) if not is_right]
    if wrong:
        tensor = gathered({**buffers, **parameters}[wrong[0]])
        raise UserError(
            f"'{wrong[0]}' of {type(network).__name__} has {int((~tensor.isfinite()).sum())} values of "
            f"{tensor.numel()} that are NaN or infinite, and figures of such a network mean nothing: look at how it "
            "was trained, or load other weights"
        )


def _has_values(tensor: Tensor) -> bool:
    return not torch.nn.parameter.is_lazy(tensor) and tensor.is_floating_point() and not tensor.is_meta
