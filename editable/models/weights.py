"""Load a network's weights from a file, as data and never as code, and write them."""

import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from editable.atomic import write_atomically
from editable.errors import UserError
from editable.models.added.row_layer import RowLayer, row_counts
from editable.models.fingerprint import fingerprint
from editable.models.state_dicts import FoundState, entries, find_state, optional_names, tensors_of
from editable.models.tied import spread_tied, tied_names

__all__ = ["check_fit", "load_weights", "read_checkpoint", "read_state", "write_weights"]


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load weights into a network, strictly: every tensor must be there, with the right shape, and no other.

    A codebook gets as many rows as the file has. Values are converted to the network's data types and devices. Nothing
    is changed where an error is raised.

    Args:
        network: The network to load into.
        path: A ``.safetensors`` file, or a checkpoint of torch (``.pt``, ``.pth``, ``.ckpt``), which is read with
            ``weights_only=True``: a state dict, or a dict that has one under any key. Prefixes of all names, as
            wrappers leave them (``module.``, ``_orig_mod.``, ``model.``), are taken off, and entries beside, such as a
            running average, are left out; a warning says what was done. Of a task's checkpoint the network is taken.

    Raises:
        UserError: If the file is missing, broken, of an unknown type or holds code, does not fit the network, or has
            values that are no finite numbers.
    """
    path = Path(path).expanduser()
    content = _read(path)
    found = find_state(network, content)
    if found is None:
        raise UserError(
            f"'{path}' holds no state dict, but {_described(content)}: save network.state_dict(), or use a Lightning "
            "checkpoint"
        )
    state = found.state | dict.fromkeys(found.unexpected, torch.empty(0)) if found.num_mistakes else found.state
    check_fit(network, state, f"the weights in '{path}'")
    _say_where(found, path)
    for name, rows in row_counts(network, found.state).items():
        cast(RowLayer, network.get_submodule(name)).resize(rows)
    with torch.no_grad():
        for name, tensor in tensors_of(network).items():
            if name in found.state:
                tensor.copy_(found.state[name])


def read_state(path: str | Path, wanted: str) -> dict[str, Tensor]:
    """Return the state dict with a fingerprint from a file of weights; no network is needed.

    Args:
        path: As of :func:`load_weights`; the state dict may be any in the file, also behind a prefix of all names.
        wanted: The fingerprint.

    Raises:
        UserError: If the file is missing, broken, of an unknown type or holds code, or has no such state dict.
    """
    found = None
    for _, state in entries(_read(Path(path).expanduser())):
        for prefix in ("", "network.", *_beginnings(next(iter(state)))):
            inside = {name.removeprefix(prefix): some for name, some in state.items() if name.startswith(prefix)}
            some = fingerprint(inside) if inside else None
            if some == wanted:
                return inside
            found = found or some
    raise UserError(
        f"'{path}' has other weights than the patch was made for (fingerprint {wanted}; these have {found}): give "
        "those that were edited, in the same precision, without the patches"
    )


def write_weights(
    path: str | Path, network: nn.Module, params: Mapping[str, Tensor] | None = None, record: Any = None
) -> None:
    """Write a network's state dict as a safetensors file, whole or not at all.

    A tensor under several names is in the file under each of them, so that whoever reads it needs not know which it is.

    Args:
        path: The file.
        network: The network.
        params: In place of its own parameters, by name; one under any name of a tensor is so under all.
        record: What the file tells of itself, as JSON holds it: its metadata ``record``.
    """
    state = tensors_of(network) | spread_tied(network, params or {})
    tensors = {name: some.detach().cpu().contiguous().clone() for name, some in state.items()}
    with write_atomically(Path(path)) as temporary:
        save_file(tensors, temporary, None if record is None else {"record": json.dumps(record)})


def _read(path: Path) -> Any:
    """Return what is in a file of weights."""
    if not path.is_file():
        raise UserError(f"there is no weights file at '{path}'")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in (".pt", ".pth", ".ckpt"):
        return read_checkpoint(path)
    raise UserError(f"cannot read weights from '{path}': give a .safetensors, .pt, .pth or .ckpt file")


def _beginnings(name: str) -> list[str]:
    """Return what of a name may be a wrapper's: ``a.``, ``a.b.`` of ``a.b.weight``."""
    parts = name.split(".")[:3]
    return [".".join(parts[:number]) + "." for number in range(1, len(parts))]


def _say_where(found: FoundState, path: Path) -> None:
    """Warn of what was guessed about a file; a task's checkpoint and a plain state dict need no word."""
    said = []
    if found.entry not in ("", "state_dict"):
        said.append(f"taken from its entry '{found.entry}'")
    if found.prefix not in ("", "network."):
        said.append(f"found behind the prefix '{found.prefix}'")
    if found.left_out and found.prefix != "network.":
        more = ", …" if len(found.left_out) > 1 else ""
        said.append(f"and {len(found.left_out)} others beside them left out ({found.left_out[0]}{more})")
    if said:
        warnings.warn(f"the weights in '{path}' were {', '.join(said)}", UserWarning, stacklevel=3)


def _described(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dict with {', '.join(map(repr, list(content)[:5]))}" if content else "an empty dict"
    return f"a {type(content).__name__}"


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
            "network's state_dict alone; of a file that you trust, by python -c \"import torch; "
            f"torch.save(torch.load('{path}', weights_only=False).state_dict(), 'state_dict.pt')\""
        ) from error
    except Exception as error:  # whatever torch's reader raises on what it takes for its own
        raise UserError(f"cannot read '{path}', which is no complete torch checkpoint ({_reason(error)})") from error


def check_fit(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Look whether a state dict fits a network, without changing anything.

    Args:
        network: The network to load into.
        state: The state dict.
        source: What the state dict is, for the message: ``the weights in 'a.pt'``.

    Raises:
        UserError: If tensors are missing, left over or of another shape.
    """
    expected, optional = tensors_of(network), optional_names(network)
    missing = [name for name in expected if name not in state and name not in optional]
    unexpected = [name for name in state if name not in expected]
    shapes = {name: tensor.shape for name, tensor in expected.items()}
    for layer, rows in row_counts(network, state).items():
        for part in cast(RowLayer, network.get_submodule(layer)).rows:
            shapes[f"{layer}.{part}"] = torch.Size((rows, *shapes[f"{layer}.{part}"][1:]))
    reshaped = [name for name in expected if name in state and state[name].shape != shapes[name]]
    if not (missing or unexpected or reshaped):
        _check_values(network, state, source)
        return
    title = f"{source} do not fit {type(network).__name__}"
    if not (missing or unexpected) and _only_classes_differ(network, expected, state, reshaped):
        ours, theirs = len(expected[reshaped[0]]), len(state[reshaped[0]])
        raise UserError(
            f"{title}: only the final classifier '{_last_layer(network)}' differs, with {theirs} classes in the file "
            f"and {ours} in the network, so ask for num_classes={theirs}"
        )
    others = [f"{name} {list(state[name].shape)} for {list(expected[name].shape)}" for name in reshaped]
    parts = [_count(missing, "missing"), _count(unexpected, "unexpected"), _count(others, "of another shape")]
    raise UserError(
        f"{title}: {', '.join(filter(None, parts))}; were they saved from another architecture, or with another "
        "width or number of classes?"
    )


def _check_values(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Refuse values that cannot be meant: they would give figures all the same."""
    for name, own in tensors_of(network).items():
        given = state.get(name)
        if given is None:
            continue
        if own.is_floating_point() and not given.is_floating_point():
            raise UserError(f"{source} have {name} as {given.dtype} where the network computes with {own.dtype}")
        if given.is_floating_point() and not given.isfinite().all():
            raise UserError(f"{source} have {int((~given.isfinite()).sum())} values in {name} that are NaN or infinite")
    for name, names in tied_names(network).items():
        differing = (
            [other for other in names if other in state and not torch.equal(state[other], state[name])]
            if name in state
            else []
        )
        if differing:
            raise UserError(
                f"{source} have different values for {name} and {differing[0]}, which are one tensor in "
                f"{type(network).__name__}"
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
