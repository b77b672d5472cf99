"""Editors and update rules written down as class path and arguments, from which a configuration file makes them."""

import inspect
import sys
from typing import Any

from torch import Tensor, nn

from editable.errors import UserError

__all__ = ["class_path_of", "configuration_of"]


def configuration_of(module: nn.Module, **given: Any) -> dict[str, Any]:
    """Return ``class_path`` and ``init_args`` of an editor or update rule, as configuration files name them.

    Constants that were learnt are written with the values that they have now, and as no longer learnt.

    Args:
        module: An object that keeps each argument of its constructor as an attribute of the same name.
        given: Arguments to write in place of such attributes.

    Raises:
        UserError: If it does not keep them, or an argument is nothing that a configuration file can hold.

    Example:
        >>> configuration_of(Editor(GD(learning_rate=0.1)))["init_args"]["rule"]
        {'class_path': 'editable.editing.GD', 'init_args': {'learning_rate': 0.1, 'learn_learning_rate': False}}
    """
    arguments: dict[str, Any] = {}
    for name in inspect.signature(type(module)).parameters:
        if name.startswith("learn_"):
            arguments[name] = False
        elif name in given:
            arguments[name] = given[name]
        elif hasattr(module, name):
            arguments[name] = _plain(getattr(module, name), f"{type(module).__name__}.{name}")
        else:
            raise UserError(
                f"{type(module).__name__} cannot be written into a configuration file, as it does not keep its "
                f"argument {name!r} as an attribute of that name"
            )
    return {"class_path": class_path_of(type(module)), "init_args": arguments}


def class_path_of(kind: type) -> str:
    """Return the shortest path that a class can be imported by: ``torch.optim.SGD``, not ``torch.optim.sgd.SGD``."""
    parts = kind.__module__.split(".")
    packages = (".".join(parts[:length]) for length in range(1, len(parts)))
    loaded = ((package, vars(sys.modules[package])) for package in packages if package in sys.modules)
    named = (package for package, names in loaded if names.get(kind.__name__) is kind)  # not what comes lazily
    return f"{next(named, kind.__module__)}.{kind.__name__}"


def _plain(value: Any, name: str) -> Any:
    """Return a value as a configuration file can hold it."""
    if isinstance(value, nn.Module):
        return configuration_of(value)
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item, name) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UserError(f"{name} cannot be written into a configuration file, as it is {value!r}")
