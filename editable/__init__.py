"""Editable neural networks: train them, edit them, rewrite them, and measure what an edit costs.

The rooms, from the top down: ``cli.py`` says what a command line asks for, ``lightning_cli.py`` and ``trainer.py``
are Lightning's command line and trainer with what editing needs; :mod:`~editable.callbacks` has what runs on trained
networks, :mod:`~editable.tasks` what trains them; :mod:`~editable.editing` and :mod:`~editable.rewriting` are the
mathematics, in plain PyTorch; :mod:`~editable.models`, :mod:`~editable.data` and :mod:`~editable.metrics` are what
these stand on; :mod:`~editable.visualize` and ``tables.py`` show what came out. A name is imported from its room
(``from editable.editing import Editor``); where a file lies inside a room may change. Start with ``python train.py
--help``, or with ``editing/editors/editor.py`` for the idea.
"""

from importlib import import_module
from typing import Any

__all__ = [
    "Evaluation",
    "Fix",
    "Patch",
    "Rule",
    "data",
    "edit",
    "editors",
    "evaluate",
    "load_weights",
    "models",
    "rewrite",
    "rewriting",
]

_PLACES = {
    **{name: f"editable.calls:{name}" for name in ("Evaluation", "Fix", "Rule", "edit", "evaluate", "rewrite")},
    "Patch": "editable.editing:EditPatch",
    "editors": "editable.editing",
    "load_weights": "editable.models:load_weights",
    **{name: f"editable.{name}" for name in ("data", "models", "rewriting")},
}  # __init__.pyi has the same, for type checkers and for what completes names


def __getattr__(name: str) -> Any:
    """Import what a notebook needs when it is first asked for: ``import editable`` alone takes no torch."""
    if name not in _PLACES:
        raise AttributeError(f"module 'editable' has no attribute {name!r}")
    module, _, own = _PLACES[name].partition(":")
    return getattr(import_module(module), own) if own else import_module(module)


def __dir__() -> list[str]:
    return list(__all__)
