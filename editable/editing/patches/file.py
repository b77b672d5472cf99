"""The file of a patch, as ``docs/patch-format.md`` specifies it: format 2 is written, 1 and 2 are read."""

import json
import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from editable.editing.patches.coding import Parts
from editable.editing.patches.record import EditRecord
from editable.errors import UserError
from editable.models.added.added_layers import AddedLayer
from editable.models.tensor_file import read_tensors, write_tensors
from editable.text_files import parse_json, require_file

__all__ = ["PatchContent", "library_versions", "read_patch", "write_patch"]

FORMAT_1, FORMAT = "editable.EditPatch 1", "editable.EditPatch 2"
FIELDS_1 = {"format", "base", "edited", "record"}
FIELDS = {"format", "base", "edited", "layers", "tied", "edits", "makers", "classes", "versions"}
TOGETHER = (("indices", "bits"), ("u", "v", "xor", "xor_back"), ("xor",), ("rows",), ("rows", "removed", "removed_at"))
"""Which parts tell of a change, beside the ``whole`` of a tensor that is the patch's own, or instead of it."""


class PatchContent(NamedTuple):
    """What is in the file of a patch: the fields of :class:`EditPatch`, by the same names."""

    changes: dict[str, Parts]
    base: str
    edited: str
    edits: tuple[EditRecord, ...]
    layers: tuple[AddedLayer, ...]
    tied: dict[str, list[str]]
    versions: dict[str, str]


def write_patch(path: str | Path, content: PatchContent) -> None:
    """Write a patch as a safetensors file of format 2, whole or not at all; an existing file is replaced.

    Raises:
        UserError: If what an edit tells could not be read again.
    """
    makers: list[Any] = []
    edits = []
    for edit in content.edits:
        plain = edit.plain()
        if plain["made_by"] not in makers:
            makers.append(plain["made_by"])
        edits.append({**plain, "made_by": makers.index(plain["made_by"])})
    classes = next((edit.classes for edit in content.edits if edit.classes), None)
    described = {
        "layers": [layer.written for layer in content.layers],
        "tied": content.tied,
        "edits": edits,
        "makers": makers,
        "classes": classes,
        "versions": content.versions,
    }
    try:
        texts = {name: json.dumps(_plain(some), ensure_ascii=False) for name, some in described.items()}
        _read_edits(*(parse_json(texts[name], path) for name in ("edits", "makers", "classes")))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"the patch is not written to '{path}', as nobody could read what it tells: {error}") from error
    texts |= {"format": FORMAT, "base": content.base, "edited": content.edited}
    tensors = {f"{name}:{part}": some for name, parts in content.changes.items() for part, some in parts.items()}
    write_tensors(path, tensors, texts)


def read_patch(path: str | Path) -> PatchContent:
    """Read a patch of either format, as data and never as code.

    Raises:
        UserError: If the file is missing, broken, or no patch.
    """
    path = Path(path).expanduser()
    require_file(path)
    if not path.is_file():
        raise UserError(f"there is no edit patch at '{path}'")
    try:
        tensors, described = read_tensors(path, sealed=False)
    except (OSError, ValueError) as error:
        other = (
            "" if path.suffix == ".safetensors" else "; a checkpoint goes to --ckpt_path, weights to --model.weights"
        )
        raise UserError(f"cannot read '{path}': {error}{other}") from error
    kind = described.get("format")
    if kind not in (FORMAT_1, FORMAT):
        raise UserError(
            f"'{path}' is no edit patch that this version knows: give a file that an edit or a rewrite has left"
        )
    expected = FIELDS_1 if kind == FORMAT_1 else FIELDS
    if set(described) != expected:
        odd = sorted(set(described) ^ expected)
        raise UserError(f"'{path}' is a damaged edit patch: its fields differ from a patch's in {', '.join(odd)}")
    for name, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            number = int((~value.isfinite()).sum())
            raise UserError(f"the patch '{path}' has {number} values in '{name}' that are NaN or infinite")
    if kind == FORMAT_1:
        record = EditRecord.of_format_1(described["record"], path)
        changes = {name: {"whole": value} for name, value in tensors.items()}
        return PatchContent(changes, described["base"], described["edited"], (record,), (), {}, {})
    try:
        return _read(described, tensors, path)
    except UserError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise UserError(
            f"'{path}' is a damaged edit patch: what it tells is not what an edit or a rewrite has left ({error})"
        ) from error


def library_versions() -> dict[str, str]:
    """Return the versions of what a patch is made with."""
    try:
        own = version("editable")
    except PackageNotFoundError:  # a folder on the path
        own = "not installed"
    return {
        "editable": own,
        "torch": torch.__version__,
        "safetensors": version("safetensors"),
        "python": platform.python_version(),
    }


def _read(described: Mapping[str, str], tensors: Mapping[str, Tensor], path: str | Path) -> PatchContent:
    layers, tied, edits, makers, classes, versions = (
        parse_json(described[name], path) for name in ("layers", "tied", "edits", "makers", "classes", "versions")
    )
    if not (_is_dict_of(versions, str) and _is_dict_of(tied, list) and all(map(_is_texts, tied.values()))):
        raise ValueError("versions or names are of another type")
    records = _read_edits(edits, makers, classes)
    changes: dict[str, Parts] = {}
    for key, tensor in tensors.items():
        name, _, part = key.rpartition(":")
        changes.setdefault(name, {})[part] = tensor
    for name, parts in changes.items():
        _check_parts(name, parts)
    made = tuple(AddedLayer.read(layer) for layer in layers)
    return PatchContent(changes, described["base"], described["edited"], tuple(records), made, tied, versions)


def _read_edits(edits: Any, makers: Any, classes: Any) -> list[EditRecord]:
    """Return the records that the file tells, with who has made each and the names of the classes apart."""
    if classes is not None and not _is_texts(classes):
        raise ValueError("classes are no names")
    records = []
    for edit in edits:
        if type(edit["made_by"]) is not int or not 0 <= edit["made_by"] < len(makers):
            raise ValueError("it is not said who has made an edit")
        records.append(EditRecord.of_plain({**edit, "made_by": makers[edit["made_by"]]}, classes))
    return records


def _plain(some: Any) -> Any:
    """Return a value as JSON holds it: numbers of other libraries as Python's, those that are not finite as text."""
    if isinstance(some, Mapping):
        return {str(key): _plain(value) for key, value in some.items()}
    if isinstance(some, list | tuple):
        return [_plain(value) for value in some]
    if getattr(some, "ndim", None) == 0 and hasattr(some, "item"):
        some = some.item()
    if isinstance(some, float) and not math.isfinite(some):
        return str(some)
    return some


def _check_parts(name: str, parts: Parts) -> None:
    """Refuse what tells of no change."""
    change = set(parts) - {"whole"}
    if change and not any(change == set(some) for some in TOGETHER):
        raise ValueError(f"'{name}' has the parts {', '.join(sorted(parts))}")
    if not change and "whole" not in parts:
        raise ValueError(f"'{name}' has no change")


def _is_texts(some: Any) -> bool:
    return isinstance(some, Sequence) and not isinstance(some, str) and all(isinstance(text, str) for text in some)


def _is_dict_of(some: Any, kind: type) -> bool:
    return isinstance(some, dict) and all(isinstance(value, kind) for value in some.values())
