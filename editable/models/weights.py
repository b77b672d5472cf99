"""Load a network's weights from a file, as data and never as code."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from editable.errors import UserError

__all__ = ["check_fit", "load_weights", "read_checkpoint"]

_LIGHTNING_PREFIX = "network."


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load weights into a network, strictly: every tensor must be there, with the right shape, and no other.

    Values are converted to the network's data types and devices. Nothing is changed where an error is raised.

    Args:
        network: The network to load into.
        path: A ``.safetensors`` file, or a checkpoint of torch (``.pt``, ``.pth``, ``.ckpt``), which is read with
            ``weights_only=True``: a plain state dict, or a dict with one under ``state_dict``. A Lightning checkpoint
            holds the network's names behind the prefix ``network.``; its other entries are left out.

    Raises:
        UserError: If the file is missing, broken, of an unknown type or holds code, or does not fit the network.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no weights file at '{path}'")
    if path.suffix == ".safetensors":
        state = _read_safetensors(path)
    elif path.suffix in (".pt", ".pth", ".ckpt"):
        state = _find_state(read_checkpoint(path), path)
    else:
        raise UserError(f"cannot read weights from '{path}': give a .safetensors, .pt, .pth or .ckpt file")
    check_fit(network, state, f"the weights in '{path}'")
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name in state:
                tensor.copy_(state[name])


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot read '{path}', which is no complete safetensors file ({_reason(error)})") from error


def read_checkpoint(path: str | Path) -> Any:
    """Read a torch checkpoint as data, never as code.

    Args:
        path: What ``torch.save`` or Lightning wrote.

    Returns:
        Whatever it holds: tensors and plain values.

    Raises:
        UserError: If the file is missing, broken, or holds Python objects that could run code when loaded.
    """
    if not Path(path).is_file():
        raise UserError(f"there is no checkpoint at '{path}'")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"cannot read '{path}', which is broken or holds Python objects that could run code when loaded: save the "
            "network's state_dict alone"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(f"cannot read '{path}', which is no complete torch checkpoint ({_reason(error)})") from error


def _find_state(content: Any, path: Path) -> dict[str, Tensor]:
    """Take the network's state dict out of what a checkpoint holds."""
    nested = isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping)
    state = content["state_dict"] if nested else content
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"'{path}' holds no state dict: save network.state_dict(), or use a Lightning checkpoint")
    inside = {
        name.removeprefix(_LIGHTNING_PREFIX): value
        for name, value in state.items()
        if name.startswith(_LIGHTNING_PREFIX)
    }
    return inside if nested and inside else dict(state)


def check_fit(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Look whether a state dict fits a network, without changing anything.

    Args:
        network: The network to load into.
        state: The state dict.
        source: What the state dict is, for the message: ``the weights in 'a.pt'``.

    Raises:
        UserError: If tensors are missing, left over or of another shape.
    """
    expected = network.state_dict()
    # The counter of batch normalisation came with torch 0.4.1; older files, torchvision's among them, lack it.
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in expected]
    reshaped = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    if not (missing or unexpected or reshaped):
        return
    title = f"{source} do not fit {type(network).__name__}"
    if not (missing or unexpected) and _only_classes_differ(network, expected, state, reshaped):
        ours, theirs = len(expected[reshaped[0]]), len(state[reshaped[0]])
        raise UserError(
            f"{title}: only the final classifier '{_last_layer(network)}' differs, with {theirs} classes in the file "
            f"and {ours} in the network, so ask for num_classes={theirs}"
        )
    shapes = [f"{name} {list(state[name].shape)} for {list(expected[name].shape)}" for name in reshaped]
    parts = [_count(missing, "missing"), _count(unexpected, "unexpected"), _count(shapes, "of another shape")]
    raise UserError(
        f"{title}: {', '.join(filter(None, parts))}; were they saved from another architecture, or with another "
        "width or number of classes?"
    )


def _only_classes_differ(
    network: nn.Module, expected: Mapping[str, Tensor], state: Mapping[str, Tensor], reshaped: list[str]
) -> bool:
    return all(
        name.rpartition(".")[0] == _last_layer(network)
        and state[name].ndim > 0
        and state[name].shape[1:] == expected[name].shape[1:]
        for name in reshaped
    )


def _last_layer(network: nn.Module) -> str:
    names = [name for name, _ in network.named_parameters()]
    return names[-1].rpartition(".")[0] if names else ""


def _count(names: list[str], what: str) -> str:
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{len(names)} {what} ({shown})" if names else ""


def _reason(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
