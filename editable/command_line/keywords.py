"""Functions that take any keyword, such as ``timm.create_model``, get theirs as plain arguments."""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from jsonargparse import Namespace, _typehints
from jsonargparse._parameter_resolvers import get_signature_parameters

from editable.errors import UserError

__all__ = ["functions_take_any_keyword"]

REFUSALS = (TypeError, ValueError, RuntimeError, LookupError, AssertionError, OSError)
"""What functions of other packages raise where they are asked for what is not possible."""


@contextmanager
def functions_take_any_keyword() -> Iterator[None]:
    """While this lasts, a function with ``**kwargs`` takes arguments that its signature does not name.

    jsonargparse finds what ``**kwargs`` go to where it can read that from the source. Elsewhere it wants a section of
    their own for them, ``dict_kwargs``; here they stand among the other arguments, in files and as options, and are
    saved so. Their values are read as YAML, which takes ``7`` for a number, in quotes too. It has no setting for this,
    so its function that reads the arguments of a class is replaced, for as long as a command line is parsed, made into
    objects, or saved.

    Raises:
        UserError: When objects are made, if the function refuses its arguments.
    """
    theirs = _typehints.adapt_class_type

    def adapt(
        value: Any, serialize: bool, instantiate_classes: bool, sub_add_kwargs: Any, prev_val: Any = None, **more: Any
    ) -> Any:
        value = _typehints.subclass_spec_as_namespace(value)
        function = _typehints.import_object(value.class_path)
        if not _takes_any(function):
            return theirs(value, serialize, instantiate_classes, sub_add_kwargs, prev_val, **more)
        known = _known(function)
        _set_apart(value, known)
        if instantiate_classes:
            with _refusals(value.class_path, list(value.get("dict_kwargs") or {}), known):
                return theirs(value, serialize, instantiate_classes, sub_add_kwargs, prev_val, **more)
        if isinstance(prev_val, Namespace) and prev_val.get("class_path") == value.class_path:
            _set_apart(prev_val := prev_val.clone(), known)
        return _put_together(theirs(value, serialize, instantiate_classes, sub_add_kwargs, prev_val, **more))

    _typehints.adapt_class_type = adapt  # type: ignore[assignment]
    try:
        yield
    finally:
        _typehints.adapt_class_type = theirs


def _takes_any(function: Any) -> bool:
    """Tell whether it is a function, no class, with ``**kwargs``."""
    if inspect.isclass(function) or not callable(function):
        return False
    return any(some.kind is some.VAR_KEYWORD for some in inspect.signature(function).parameters.values())


def _known(function: Callable[..., Any]) -> list[str]:
    """Return the arguments that jsonargparse finds, also those that it follows ``**kwargs`` to."""
    return [some.name for some in get_signature_parameters(function, None)]


def _set_apart(value: Namespace, known: list[str]) -> None:
    """Move what is not known from a section's arguments to where jsonargparse looks for it."""
    arguments, others = value.get("init_args"), {}
    if isinstance(arguments, _typehints.NestedArg):  # one option, such as --network.config.width
        name, *inner = arguments.key.split(".")
        if name not in known:
            others[name] = _typehints.load_value(arguments.val, simple_types=True)
            for part in reversed(inner):
                others[name] = {part: others[name]}
            del value["init_args"]
    elif arguments:
        others = {name: _plain(some) for name, some in _items(arguments) if name not in known}
        value["init_args"] = Namespace({name: some for name, some in _items(arguments) if name in known})
    if others:
        value["dict_kwargs"] = {**(value.get("dict_kwargs") or {}), **others}


def _put_together(value: Namespace) -> Namespace:
    """Write all arguments in one place."""
    others = value.pop("dict_kwargs", None)
    if others:
        value["init_args"] = Namespace({**dict(_items(value.get("init_args") or {})), **others})
    return value


def _plain(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Namespace) else value


def _items(arguments: Any) -> Any:
    return arguments.items(branches=True, nested=False) if isinstance(arguments, Namespace) else arguments.items()


@contextmanager
def _refusals(path: str, others: list[str], known: list[str]) -> Iterator[None]:
    """Say in one sentence what a function has refused that only it could know."""
    try:
        yield
    except UserError:
        raise
    except REFUSALS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        name = next((some for some in re.findall(r"\w+", reason) if some in others), None)
        near = get_close_matches(name, known, n=1) if name is not None and "keyword" in reason else []
        meant = f": did you mean '{near[0]}' by '{name}'?" if near else ""
        raise UserError(f"{path} cannot be made of its arguments ({reason}){meant}") from error
