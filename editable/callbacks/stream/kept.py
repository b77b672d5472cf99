"""The corrected network's weights in a file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from editable.atomic import write_atomically
from editable.models.tied import spread_tied

__all__ = ["write_weights"]


def write_weights(path: Path, network: nn.Module, params: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write a network's state with corrected parameters in place of its own, whole or not at all.

    Args:
        path: The safetensors file.
        network: The furnished network.
        params: Corrected parameters by name.
        record: What was asked, by which editor, and with what harm, as JSON holds it: the file's metadata ``record``.
    """
    state = network.state_dict() | spread_tied(network, params)
    tensors = {name: some.detach().cpu().contiguous().clone() for name, some in state.items()}
    with write_atomically(path) as temporary:
        save_file(tensors, temporary, {"record": json.dumps(record)})
