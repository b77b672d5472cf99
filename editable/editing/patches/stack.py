"""Patches that stack: made one of, or freed of one edit anywhere in them, without a network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from editable.editing.patches.on_states import furnished, with_patch
from editable.editing.patches.patch import EditPatch
from editable.editing.patches.record import EditRecord
from editable.editing.patches.rows import Row, RowLedger
from editable.errors import UserError
from editable.models.added.added_layers import AddedLayer

__all__ = ["LeftPatch", "MakeAgain", "drop", "merge", "place_of"]

State = dict[str, Tensor]

MakeAgain = Callable[[int, Sequence[EditRecord], Sequence[EditPatch], Mapping[str, Tensor]], EditPatch]
"""``make_again(number, edits, before, state)``: make the patch at a position of the stack again, with these edits, on
the patches before it, which have left the state; it raises a :class:`UserError` where it cannot."""


class LeftPatch(NamedTuple):
    """A patch that is left of a stack.

    Attributes:
        number: Its position in the stack before, from 0.
        patch: As it is now.
        how: ``as it was``, with not a byte changed; ``on other weights``, with the same values; ``without the edit``;
            or ``made again``.
    """

    number: int
    patch: EditPatch
    how: str


def place_of(patches: Sequence[EditPatch], number: int) -> tuple[int, int]:
    """Return the patch and the position in it of an edit, by its number in the whole stack, from 1.

    Raises:
        UserError: If there is none of that number.
    """
    total = sum(len(patch.edits) for patch in patches)
    if not 1 <= number <= total:
        raise UserError(f"there is no edit {number}: the patches have {total}, numbered from 1")
    left = number - 1
    for place, patch in enumerate(patches):
        if left < len(patch.edits):
            return place, left
        left -= len(patch.edits)
    raise AssertionError("the number is among them")


def merge(patches: Sequence[EditPatch], state: Mapping[str, Tensor], names: Sequence[str]) -> EditPatch:
    """Return one patch that does what several do one after the other, with all their edits.

    Args:
        patches: In the order of their making.
        state: State dict of the weights that the first was made for, on the CPU.
        names: Of the patches, for messages.

    Raises:
        UserError: If they do not stack on these weights.
    """
    before, after = dict(state), dict(state)
    layers: list[AddedLayer] = []
    tied: dict[str, list[str]] = {}
    ledger, places = RowLedger(), []
    for number, (patch, name) in enumerate(zip(patches, names, strict=True)):
        after = with_patch(after, patch, name)
        before = furnished(before, patch)
        layers += patch.layers
        tied |= patch.tied
        ledger.take(number, patch, before)
        places += [(number, edit) for edit in patch.edits]
    final = {layer: [row for row in rows if row[0] >= 0] for layer, rows in ledger.rows.items()}
    edits = []
    for number, edit in places:
        own = {layer: {(number, row) for row in rows} for layer, rows in edit.rows.items()}
        edits.append(
            edit.with_rows(
                {
                    layer: [place for place, row in enumerate(final.get(layer, [])) if row in rows]
                    for layer, rows in own.items()
                }
            )
        )
    return EditPatch.between(before, after, edits, layers, tied)


def drop(
    patches: Sequence[EditPatch],
    state: Mapping[str, Tensor],
    number: int,
    names: Sequence[str],
    make_again: MakeAgain,
) -> list[LeftPatch]:
    """Drop one edit of a stack, the first, the last or one between, and return the patches that are left.

    Patches before it stay as they are. Rows of a codebook and of other layers that have them are deleted, exactly, and
    all others stay. A patch behind it whose tensors the edit had no part in keeps its values, on the other weights.
    Made again is a patch of several edits, if the dropped one has no rows of its own, and a patch behind it that has
    changed the same tensors.

    Args:
        patches: In the order of their making.
        state: State dict of the weights that the first was made for, on the CPU.
        number: Of the edit, from 1, over all patches.
        names: Of the patches, for messages.
        make_again: Makes a patch again.

    Raises:
        UserError: If there is no such edit, the patches do not stack on these weights, or one cannot be made again.
    """
    place, edit = place_of(patches, number)
    before = dict(state)
    for patch, name in zip(patches[:place], names[:place], strict=True):
        before = with_patch(before, patch, name)
    left = [LeftPatch(position, patch, "as it was") for position, patch in enumerate(patches[:place])]
    dropping = _Dropping(list(patches), before, place, edit, make_again, left)
    for position in range(place, len(patches)):
        dropping.go_on(position, names[position])
    return dropping.left


class _Dropping:
    """The stack as it was and as it becomes, side by side."""

    def __init__(
        self,
        patches: list[EditPatch],
        state: State,
        place: int,
        edit: int,
        make_again: MakeAgain,
        left: list[LeftPatch],
    ) -> None:
        self.patches, self.place, self.edit, self.make_again, self.left = patches, place, edit, make_again, left
        self.was, self.now = dict(state), dict(state)
        self.rows_were, self.rows_are = RowLedger(), RowLedger()
        self.lost: list[tuple[AddedLayer, EditPatch]] = []
        self.touched: set[str] = set()

    def go_on(self, position: int, name: str) -> None:
        """Take the next patch over to the stack as it becomes."""
        patch = self.patches[position]
        idle, after = furnished(self.was, patch), with_patch(self.was, patch, name)
        removed = self.rows_were.take(position, patch, idle)
        others = {self._plain(key): key for key, parts in patch.changes.items() if _is_value(key, patch)}
        is_here = position == self.place
        if is_here and len(patch.edits) == 1:
            self.touched |= set(others)
            self.lost += [(layer, patch) for layer in patch.layers]
        elif is_here and (others or not patch.edits[self.edit].rows):
            self._again(position, _without(patch.edits, self.edit), set(others))
        elif not is_here and (self.touched & set(others) or (patch.layers and self.lost)):
            self._again(position, patch.edits, set(others))
        else:
            self._over(position, {key: after[key] for key in others.values()}, removed)
        self.was = after

    def _over(self, position: int, values: Mapping[str, Tensor], removed: Mapping[str, set[Row]]) -> None:
        """Make the same change on the stack as it becomes."""
        patch = self.patches[position]
        edits, gone = list(patch.edits), dict[str, list[int]]()
        if position == self.place:
            gone = patch.edits[self.edit].rows
            edits = [_renumbered(edit, gone) for edit in _without(patch.edits, self.edit)]
        layers = list(patch.layers)
        before = furnished(self.now, patch)
        for layer, first in [some for some in self.lost if self._needs(patch, some[0])]:
            before = furnished(before, replace(first, layers=(layer,)))
            layers.append(layer)
            self.lost.remove((layer, first))
        self.rows_are.take(position, patch, before, removed, gone)
        tied = {self._plain(key): [self._plain(some) for some in names] for key, names in patch.tied.items()}
        after = dict(before) | {self._plain(key): value for key, value in values.items()}
        after |= self.rows_are.tensors(after) | {some: after[key] for key, names in tied.items() for some in names}
        made = EditPatch.between(before, after, edits, layers, tied)
        if len(edits) == 1:
            made = replace(made, edits=(edits[0].with_rows(made.edits[0].rows),))
        how = "without the edit" if position == self.place else "on other weights"
        self.left.append(LeftPatch(position, made, how))
        self.now = after

    def _again(self, position: int, edits: Sequence[EditRecord], touched: set[str]) -> None:
        """Have a patch made again."""
        patch = self.make_again(position, edits, [some.patch for some in self.left], self.now)
        before = furnished(self.now, patch)
        self.now = with_patch(self.now, patch, f"the patch that was made again, number {position + 1}")
        self.rows_are.take(position, patch, before, again=True)
        self.touched |= touched | {self._plain(key) for key in patch.changes if _is_value(key, patch)}
        self.left.append(LeftPatch(position, patch, "made again"))

    def _needs(self, patch: EditPatch, layer: AddedLayer) -> bool:
        return any(key.startswith(layer.prefix) for key in patch.changes)

    def _plain(self, key: str) -> str:
        """Return what a tensor is called without the layers that the stack has lost."""
        for layer, _ in reversed(self.lost):
            key = key if key.startswith(layer.prefix) else layer.name_without(key)
        return key


def _is_value(key: str, patch: EditPatch) -> bool:
    """Return whether a patch changes values of a tensor, rather than adding rows or bringing it."""
    parts = set(patch.changes[key])
    brought = any(key.startswith(layer.prefix) for layer in patch.layers)
    return "rows" not in parts and not (brought and parts == {"whole"})


def _without(edits: Sequence[EditRecord], number: int) -> list[EditRecord]:
    return [edit for position, edit in enumerate(edits) if position != number]


def _renumbered(edit: EditRecord, gone: Mapping[str, Sequence[int]]) -> EditRecord:
    """Return a record with the numbers that its rows have when others are gone."""
    return edit.with_rows(
        {
            layer: [row - sum(some < row for some in gone.get(layer, ())) for row in rows]
            for layer, rows in edit.rows.items()
        }
    )
