"""What may stand where a class is asked for: known subclasses, and functions of our rooms that make one."""

import inspect
import sys
from contextlib import suppress
from typing import Any, get_type_hints

from jsonargparse import _typehints

__all__ = ["MAKERS_OF_NETWORKS", "known_makers", "known_names"]

MAKERS_OF_NETWORKS = "editable.models"
"""The room whose functions make networks."""


def known_makers(room: str) -> list[str]:
    """Return the import paths of the functions that a room exports, if it is imported, and that make a network."""
    torch, door = sys.modules.get("torch"), sys.modules.get(room)
    if torch is None or door is None:
        return []
    return [f"{room}.{name}" for name in door.__all__ if _makes(getattr(door, name), torch.nn.Module)]


def known_names(typehint: Any) -> list[str]:
    """Return the import paths of what can be named where a type is expected; none where it is no class."""
    with suppress(Exception):  # of a type that has no classes
        paths = _typehints.get_all_subclass_paths(typehint)
        if "torch.nn.Module" in paths:
            return known_makers(MAKERS_OF_NETWORKS) + [path for path in paths if path.startswith("torch.nn.")]
        return paths
    return []


def _makes(some: Any, kind: type) -> bool:
    """Tell whether this is a function that returns an object of a class."""
    if not inspect.isfunction(some):
        return False
    with suppress(Exception):  # of a function whose annotations cannot be resolved
        made = get_type_hints(some).get("return")
        return inspect.isclass(made) and issubclass(made, kind)
    return False
