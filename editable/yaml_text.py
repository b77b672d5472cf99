"""YAML in which what is typed stays text until an option asks for a number, and which is bounded and unambiguous."""

import json
from typing import Any, ClassVar

import yaml

from editable.errors import UserError

__all__ = ["load_yaml"]

MOST_VALUES = 100_000
"""Values in a file, those behind anchors counted wherever they stand."""
SCALARS = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool")}


class _TextLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads data alone; a plain scalar that is not the usual way to write its value stays text."""

    yaml_implicit_resolvers: ClassVar = {
        letter: [(tag, pattern) for tag, pattern in rules if not tag.endswith(":timestamp")]
        for letter, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return the value of a node."""
        try:
            value = super().construct_object(node, deep=deep)
        except (LookupError, ValueError, TypeError, OverflowError) as error:  # PyYAML's, of ``!!int ""``
            raise yaml.constructor.ConstructorError(None, None, f"it is no {node.tag}", node.start_mark) from error
        is_plain = isinstance(node, yaml.ScalarNode) and node.tag in SCALARS and not node.style
        return value if not is_plain or node.value in _usual(value) else node.value


def _usual(value: Any) -> tuple[str, ...]:
    """Return how a number or truth value is usually written: as JSON, and a float as saved configurations have it."""
    written = json.dumps(value)
    if isinstance(value, float) and "e" in written and "." not in written:
        return written, written.replace("e", ".0e")  # PyYAML's 1.0e-08
    return (written,)


def load_yaml(text: str, path: str = "") -> Any:
    """Read YAML as data.

    A plain ``7``, ``0.5``, ``true`` or ``null`` is a number, a truth value or nothing. What else YAML would take for
    one of these, such as ``007``, ``1e3`` or ``yes``, stays the text that it is, so that it can be a name: an option
    that wants a number or a truth value reads it as YAML does. ``json.dumps`` of what is no text is the text again.
    So does a line whose keys have no values, as ``{step}``, which names files, and ``a:``.

    Args:
        text: Of a file, or what stands behind an option.
        path: Of the file, for messages.

    Returns:
        Dictionaries, lists and scalars.

    Raises:
        yaml.YAMLError: If it is no YAML.
        UserError: If a key stands twice, or anchors refer to themselves, or multiply to more than 100 000 values.
    """
    loader = _TextLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return text if text.strip() else None  # a comment, which on the command line may be a name
        _count(node, {}, _shown(text, path))
        if "\n" not in text.strip() and _has_keys_alone(node):
            return text
        return loader.construct_document(node)
    except RecursionError:
        raise UserError(f"{_shown(text, path)} is nested too deeply") from None
    finally:
        loader.dispose()


def _has_keys_alone(node: yaml.Node) -> bool:
    """Return whether this is a mapping, not empty, in which nothing stands behind any key."""
    return (
        isinstance(node, yaml.MappingNode)
        and bool(node.value)
        and all(isinstance(value, yaml.ScalarNode) and not value.value and not value.style for _, value in node.value)
    )


def _count(node: yaml.Node, counted: dict[int, int], source: str) -> int:
    """Return the number of values in a node as it will be read; look at its keys besides."""
    if id(node) in counted:
        if not counted[id(node)]:
            raise UserError(f"the anchor in line {node.start_mark.line + 1} of {source} refers to itself")
        return counted[id(node)]
    counted[id(node)] = 0  # while it is looked at
    inside: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _require_different_keys(node, source)
        inside = [some for pair in node.value for some in pair]
    elif isinstance(node, yaml.SequenceNode):
        inside = node.value
    counted[id(node)] = 1 + sum(_count(some, counted, source) for some in inside)
    if counted[id(node)] > MOST_VALUES:
        raise UserError(f"{source} has more than {MOST_VALUES} values, with those that its anchors repeat")
    return counted[id(node)]


def _require_different_keys(node: yaml.MappingNode, source: str) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode) and key.value in lines:
            raise UserError(
                f"{source} has the key '{key.value}' twice in one place, in lines {lines[key.value]} and {line}: each "
                "may stand there once"
            )
        if isinstance(key, yaml.ScalarNode):
            lines[key.value] = line


def _shown(text: str, path: str) -> str:
    first = text.lstrip().partition("\n")[0]
    return f"'{path}'" if path else f"the YAML that begins with '{first[:40]}'"
