"""The corrected network's weights in a file."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from editable.atomic import write_atomically
from editable.models.tied import spread_tied

__all__ = ["write_weights"]


def write_weights(path: Path, network: nn.Module, params: Mapping[str, Tensor]) -> None:
    """Write a network's state with corrected parameters in place of its own, whole or not at all.

    Args:
        path: The safetensors file.
        network: The furnished network.
        params: Corrected parameters by name.
    """
    state = network.state_dict() | spread_tied(network, params)
    with write_atomically(path) as temporary:
        save_file({name: some.detach().cpu().contiguous().clone() for name, some in state.items()}, temporary)
