"""What becomes of a class's arguments where an option or a later file chooses another class: they go with it."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jsonargparse import Namespace, _typehints
from jsonargparse._parameter_resolvers import get_signature_parameters
from lightning.pytorch.utilities import rank_zero_warn

__all__ = ["arguments_go_with_their_class"]


@contextmanager
def arguments_go_with_their_class() -> Iterator[None]:
    """While this lasts, a value that names another class than before starts with that class's own defaults.

    jsonargparse keeps what the new class accepts too: with a default of ``SGD(weight_decay=1e-4)``,
    ``--model.optimizer Adam`` would be an Adam with that weight decay. It has no setting for this, so its function that
    decides what is kept is replaced, for as long as a command line is parsed.

    At the end a warning names the arguments that were left out, if somebody had given them: those of a default go in
    silence.
    """
    changes = _ClassChanges()
    theirs = _typehints.discard_init_args_on_class_path_change
    _typehints.discard_init_args_on_class_path_change = changes.forget
    try:
        yield
    finally:
        _typehints.discard_init_args_on_class_path_change = theirs
    changes.warn()


class _ClassChanges:
    """Changes of classes in one command line: from which to which, and what is left out."""

    def __init__(self) -> None:
        self._left_out: dict[tuple[str, str], dict[str, Any]] = {}
        self._defaults: dict[str, dict[str, Any]] = {}
        """What the default of an option gives to a class, by class."""

    def forget(self, parser_or_action: object, before: Any, after: Any) -> None:
        """Take the arguments from what was there before, if the class is another one.

        It may be called several times for one change: with copies, and with a parser in place of the option.
        """
        if not before or "init_args" not in before or _same_class(before["class_path"], after["class_path"]):
            return
        old, new = before["class_path"], after["class_path"]
        default: Any = getattr(parser_or_action, "default", None)
        if _typehints.is_subclass_spec(default) and default["class_path"] == old:
            self._defaults.setdefault(old, {}).update(_items(default.get("init_args")))
        arguments = before["init_args"]
        self._left_out.setdefault((old, new), {}).update(_items(arguments))
        for name in list(_items(arguments)):
            arguments.pop(name)

    def warn(self) -> None:
        """Say once for each change what is left out of what somebody gave."""
        for (old, new), arguments in self._left_out.items():
            usual = {**_own_defaults(old), **self._defaults.get(old, {})}
            given = [f"{name}={value}" for name, value in arguments.items() if usual.get(name) != value]
            if given:
                rank_zero_warn(
                    f"{new} takes the place of {old}, whose arguments go with it: {', '.join(given)}; give {new} its "
                    "own, after its name",
                    stacklevel=7,
                )


def _same_class(path: str, other: str) -> bool:
    """Tell whether two paths name one class: from its room or its file, or by its bare name."""
    if "." in path and "." in other:
        return _typehints.import_object(path) is _typehints.import_object(other)
    return path.rpartition(".")[2] == other.rpartition(".")[2]


def _items(arguments: Any) -> dict[str, Any]:
    """Return the arguments at their top level."""
    if not arguments:
        return {}
    return dict(arguments.items(branches=True, nested=False) if isinstance(arguments, Namespace) else arguments.items())


def _own_defaults(class_path: str) -> dict[str, Any]:
    """Return the defaults of a class, or of a function that makes one, with those of what ``**kwargs`` go to."""
    parameters = get_signature_parameters(_typehints.import_object(class_path), None)
    return {some.name: some.default for some in parameters if some.default is not inspect.Parameter.empty}
