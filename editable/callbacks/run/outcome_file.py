"""An outcome in a file: plain data, from which its report can be drawn again without the run, its network or data."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from editable.atomic import write_atomically
from editable.errors import UserError

__all__ = ["from_plain", "read_outcome", "write_outcome"]

SCALARS: dict[Any, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (int, float),
    str: (str,),
    Tensor: (Tensor,),
}
"""Plain types by the hint that asks for them."""
LARGEST = 2**63
"""No count is larger, and JSON may hold numbers that no float can."""

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
    plain = _plain(outcome, type(outcome).__name__)
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        torch.save(plain, file)  # into a file of Python's, whose errors say what the matter is


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
        return from_plain(plain, kind)
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


def from_plain(plain: Any, hint: Any) -> Any:
    """Return what a type hint says of plain data, such as JSON has; where it says nothing, the data as it is.

    Args:
        plain: Numbers, text, tensors and containers of these; what a class holds by name.
        hint: A dataclass, a NamedTuple, or any type hint that is made of these and of plain types.

    Raises:
        ValueError: If the data are of another type, or something is missing or too much; it says where.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _one_of(plain, arguments)
    if isinstance(hint, type) and _fields(hint) is not None:
        return _with_fields(plain, hint)
    if origin is Literal:
        return _known(plain, plain in arguments, hint)
    if hint in SCALARS:
        kinds = SCALARS[hint]
        fits = isinstance(plain, kinds) and (bool in kinds or not isinstance(plain, bool))
        return _known(plain, fits and not (isinstance(plain, int) and abs(plain) > LARGEST), hint)
    if origin in (dict, Mapping) and len(arguments) == 2:
        _known(plain, isinstance(plain, dict), hint)
        return {from_plain(key, arguments[0]): from_plain(value, arguments[1]) for key, value in plain.items()}
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        _known(plain, isinstance(plain, list | tuple) and len(plain) == len(arguments), hint)
        return tuple(from_plain(value, some) for value, some in zip(plain, arguments, strict=True))
    if origin in (list, tuple, Sequence) and arguments:
        _known(plain, isinstance(plain, list | tuple), hint)
        return type(plain)(from_plain(value, arguments[0]) for value in plain)
    return plain


def _one_of(plain: Any, hints: Sequence[Any]) -> Any:
    """Return what the first of several hints says that fits."""
    errors = []
    for hint in hints:
        if hint is type(None):
            if plain is None:
                return None
            continue
        try:
            return from_plain(plain, hint)
        except ValueError as error:
            errors.append(str(error))
    raise ValueError(" and ".join(errors))


def _with_fields(plain: Any, kind: type) -> Any:
    """Return a dataclass or NamedTuple; a NamedTuple may be there as a list, as JSON has it."""
    hints, named, defaults = get_type_hints(kind), _fields(kind) or (), getattr(kind, "_field_defaults", {})
    if isinstance(plain, list) and issubclass(kind, tuple):
        if not len(named) - len(defaults) <= len(plain) <= len(named):
            raise ValueError(f"{kind.__name__} has {', '.join(named)}, the file {len(plain)} values")
        plain = dict(zip(named, plain, strict=False))
    if not isinstance(plain, dict):
        raise ValueError(f"{kind.__name__} has {', '.join(named)}, the file {plain!r}")
    if set(plain) - set(named) or set(named) - set(plain) - set(defaults):
        raise ValueError(f"{kind.__name__} has {', '.join(named)}, the file {', '.join(map(str, plain))}")
    made = {}
    for name, value in plain.items():
        try:
            made[name] = from_plain(value, hints.get(name, Any))
        except ValueError as error:
            raise ValueError(f"{name} of {kind.__name__}: {error}") from error
    return kind(**made)


def _known(plain: Any, fits: bool, hint: Any) -> Any:
    if not fits:
        raise ValueError(f"{str(plain)[:80]!r} is no {getattr(hint, '__name__', hint)}")
    return plain


def _fields(value: Any) -> tuple[str, ...] | None:
    """Return the names of what a dataclass or NamedTuple holds; None of anything else."""
    if is_dataclass(value):
        return tuple(some.name for some in fields(value) if some.init)
    return getattr(value, "_fields", None)
