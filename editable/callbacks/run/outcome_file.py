"""An outcome in a file: plain data, from which its report can be drawn again without the run, its network or data."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from editable.atomic import write_atomically
from editable.errors import UserError

__all__ = ["read_outcome", "write_outcome"]

Outcome = TypeVar("Outcome")


def write_outcome(path: str | Path, outcome: Any) -> None:
    """Write an outcome, whole or not at all.

    Args:
        path: The file; an existing one is replaced.
        outcome: A dataclass or NamedTuple of tensors, numbers, text, None, and lists, tuples, mappings and further such
            classes of these.

    Raises:
        TypeError: If it holds anything else: then a report needs more than its outcome.
    """
    with write_atomically(path) as temporary:
        torch.save(_plain(outcome, type(outcome).__name__), temporary)


def read_outcome(path: str | Path, kind: type[Outcome]) -> Outcome:
    """Read an outcome as data, never as code.

    Args:
        path: What :func:`write_outcome` has left.
        kind: The outcome's class, whose type hints say what the parts are.

    Raises:
        UserError: If the file is not there, or holds no outcome of this class.
    """
    if not Path(path).is_file():
        raise UserError(f"there is no outcome at '{path}'")
    try:
        plain = torch.load(path, map_location="cpu", weights_only=True)
        return _made(plain, kind)
    except Exception as error:  # whatever torch's reader raises on a foreign or damaged file
        raise UserError(f"'{path}' holds no outcome of the kind {kind.__name__} ({error})") from error


def _plain(value: Any, where: str) -> Any:
    """Return a value as containers that ``torch.load`` reads as data; class names are left to the reader's hints."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()  # a view would be written with all that it is a view of
    if value is None or isinstance(value, bool | int | float | str):
        return value
    named = _fields(value)
    if named is not None:
        return {name: _plain(getattr(value, name), f"{where}.{name}") for name in named}
    if isinstance(value, Mapping):
        return {_plain(key, where): _plain(some, f"{where}[{key!r}]") for key, some in value.items()}
    if isinstance(value, Sequence):
        parts = [_plain(some, f"{where}[{index}]") for index, some in enumerate(value)]
        return tuple(parts) if isinstance(value, tuple) else parts
    raise TypeError(
        f"{where} is a {type(value).__name__}; an outcome holds tensors, numbers, text and containers of these"
    )


def _made(plain: Any, hint: Any) -> Any:
    """Return what a type hint says of plain data; where it says nothing, the data as it is."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if plain is None:
            return None
        (hint,) = (some for some in arguments if some is not type(None)) if type(None) in arguments else (Any,)
        return _made(plain, hint)
    if isinstance(hint, type) and _fields(hint) is not None:
        hints = get_type_hints(hint)
        named = _fields(hint) or ()
        if set(plain) != set(named):
            raise ValueError(f"{hint.__name__} has {', '.join(named)}, the file {', '.join(plain)}")
        return hint(**{name: _made(plain[name], hints.get(name, Any)) for name in named})
    if isinstance(plain, dict) and len(arguments) == 2:
        return {_made(key, arguments[0]): _made(value, arguments[1]) for key, value in plain.items()}
    if isinstance(plain, tuple) and len(arguments) > 1 and arguments[-1] is not Ellipsis:
        return tuple(_made(value, some) for value, some in zip(plain, arguments, strict=True))
    if isinstance(plain, list | tuple) and arguments:
        return type(plain)(_made(value, arguments[0]) for value in plain)
    return plain


def _fields(value: Any) -> tuple[str, ...] | None:
    """Return the names of what a dataclass or NamedTuple holds; None of anything else."""
    if is_dataclass(value):
        return tuple(some.name for some in fields(value) if some.init)
    return getattr(value, "_fields", None)
