"""What is shown of patches: their edits, their tensors, and what they tell of themselves."""

from collections.abc import Sequence

from editable.editing import EditPatch
from editable.editing.patches.coding import form
from editable.tables import Table

__all__ = ["about", "edits", "tensors"]

SHORT = 60


def edits(patches: Sequence[EditPatch], names: Sequence[str]) -> Table:
    """Return a table with a row for each edit, numbered over all patches."""
    rows: list[list[object]] = []
    for patch, name in zip(patches, names, strict=True):
        for edit in patch.edits:
            harm = "not known" if edit.harm is None else edit.harm.sentence()
            asked = edit.sentence if len(edit.sentence) <= SHORT else f"{edit.sentence[: SHORT - 1]}…"
            rows.append([len(rows) + 1, asked, edit.editor, harm, name])
    return Table(["edit", "asked", "by", "harm", "file"], rows)


def about(patch: EditPatch, name: str) -> Table:
    """Return a table of what a patch tells of itself."""
    rows = [
        ["weights before", patch.base],
        ["weights after", patch.edited],
        ["size of tensors", f"{patch.num_bytes / 1e6:.3f} MB"],
        ["brings", ", ".join(f"{layer.kind} at '{layer.at or 'the whole network'}'" for layer in patch.layers) or "–"],
        ["made with", ", ".join(f"{library} {version}" for library, version in patch.versions.items()) or "not said"],
    ]
    classes = patch.record.classes
    rows.append(["classes", "not said" if not classes else f"{len(classes)}: {', '.join(classes[:10])}"])
    for number, edit in enumerate(patch.edits, 1):
        rows.append([f"edit {number}, asked", edit.sentence])
        rows.append([f"edit {number}, by", str(edit.made_by)])
        if edit.harm is not None:
            rows.append([f"edit {number}, harm", edit.harm.sentence()])
        if edit.rows:
            of = "; ".join(f"{layer}: {', '.join(map(str, some)) or 'none left'}" for layer, some in edit.rows.items())
            rows.append([f"edit {number}, own rows", of])
        if edit.config is not None:
            rows.append([f"edit {number}, run", edit.config])
    return Table(["", "is"], rows, name)


def tensors(patch: EditPatch) -> Table:
    """Return a table with a row for each tensor."""
    rows = [[name, form(parts), sum(part.nbytes for part in parts.values())] for name, parts in patch.changes.items()]
    return Table(["tensor", "held as", "bytes"], sorted(rows, key=lambda row: -row[2]))
