"""The classes of a deployed network in the order of its labels: a list, a text file, or what the network came with."""

from pathlib import Path
from typing import Any

from editable.data.classes import ClassNames, name_key, named_classes
from editable.errors import UserError
from editable.text_files import read_json, read_text

__all__ = ["read_class_list"]

CONFIG = "config.json"
"""What ``save_pretrained`` of Hugging Face calls a network's configuration."""


def read_class_list(classes: ClassNames) -> list[str]:
    """Return class names by label.

    Args:
        classes: The names themselves; or one text, which names a file: a text file with a name in each line, a JSON
            file with a list of names, or with ``id2label`` as a configuration of Hugging Face has it; or the folder
            with such a ``config.json``.

    Raises:
        UserError: If there is no such file, it has no names, or one is empty or stands twice.
    """
    if isinstance(classes, str):
        source = f"'{classes}'"
        names = _read(Path(classes).expanduser())
    else:
        source = "classes"
        names = named_classes(classes)
    if not names:
        raise UserError(f"{source} is empty: name at least one class")
    known: dict[str, int] = {}
    for label, name in enumerate(names):
        if not name.strip():
            raise UserError(f"{source} has an empty name for class {label}: give each class a name")
        first = known.setdefault(name_key(name), label)
        if first != label:
            raise UserError(f"{source} has '{name}' twice, as class {first} and {label}: each class has one label")
    return names


def _read(path: Path) -> list[str]:
    path = path / CONFIG if path.is_dir() else path
    try:
        if path.suffix == ".json":
            return _from_json(read_json(path), path)
        lines = read_text(path).splitlines()
    except FileNotFoundError as error:
        raise UserError(
            f"there is no file of classes at '{path}': give one with a name in each line, a config.json, or a list of "
            "names"
        ) from error
    while lines and not lines[-1].strip():
        lines.pop()
    return [line.strip() for line in lines]


def _from_json(content: Any, path: Path) -> list[str]:
    """Return the names of a list, or of ``id2label``."""
    if isinstance(content, dict):
        names = content.get("id2label", content)
        if not isinstance(names, dict) or sorted(names, key=_number) != [str(label) for label in range(len(names))]:
            raise UserError(
                f"'{path}' has no names of classes: expected a list, or id2label with a name for each of 0, 1, 2, …"
            )
        content = [names[str(label)] for label in range(len(names))]
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise UserError(f"'{path}' has no names of classes: expected a list of texts, or id2label")
    return content


def _number(text: str) -> float:
    return int(text) if text.isdecimal() else float("inf")
