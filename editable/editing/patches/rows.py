"""Whose a row is, in layers that have one for each edit: known by the patch that has added it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from editable.editing.patches.on_states import Patch
from editable.models.added.row_layer import row_groups

__all__ = ["Row", "RowLedger"]

Row = tuple[int, int]
"""The patch's position in its stack, and the row's among those that it adds; −1 and a number for one of the weights."""

AGAIN = 10**6
"""Added to the number of a row that was made again, which is not the former one."""


class RowLedger:
    """Follows the rows of layers through a stack of patches.

    Attributes:
        rows: Which rows a layer has, in their order, by the layer's name.
    """

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}
        self._values: dict[str, dict[Row, Tensor]] = {}

    def take(
        self,
        number: int,
        patch: Patch,
        before: Mapping[str, Tensor],
        removed: Mapping[str, set[Row]] | None = None,
        gone: Mapping[str, Sequence[int]] | None = None,
        again: bool = False,
    ) -> dict[str, set[Row]]:
        """Add the rows that a patch adds, and remove those that it removes, which are returned.

        Args:
            number: Of the patch in its stack.
            patch: The patch.
            before: State dict that it is made on, with its layers, idle.
            removed: What it removes, where the rows here are not those that it was made on, by the layer's name.
            gone: Numbers of rows that it adds no more, by the layer's name.
            again: Whether it was made again, on rows as they are here.
        """
        shift = AGAIN if again else 0
        fewer: dict[str, set[Row]] = {}
        for layer, names in self._groups(patch, before).items():
            self._start(layer, names, before)
            parts = patch.changes[names[0]]
            own = self.rows[layer]
            places = parts["removed_at"].tolist() if "removed_at" in parts else []
            fewer[layer] = {own[place] for place in places} if removed is None else removed.get(layer, set())
            added = [
                (number, row + shift) for row in range(len(parts["rows"])) if row not in (gone or {}).get(layer, ())
            ]
            self.rows[layer] = [row for row in own if row not in fewer[layer]] + added
            for name in names:
                self._values.setdefault(name, {}).update(
                    {(number, row + shift): value for row, value in enumerate(patch.changes[name]["rows"])}
                )
        return fewer

    def tensors(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of all layers that it knows, by name, of those in a state dict."""
        return {
            name: torch.stack([self._values[name][row] for row in self.rows[layer]])
            for layer, names in row_groups(state).items()
            if layer in self.rows
            for name in names
        }

    def _start(self, layer: str, names: Sequence[str], before: Mapping[str, Tensor]) -> None:
        if layer not in self.rows:
            number = len(before[names[0]])
            self.rows[layer] = [(-1, row) for row in range(number)]
            for name in names:
                self._values.setdefault(name, {}).update({(-1, row): some for row, some in enumerate(before[name])})

    @staticmethod
    def _groups(patch: Patch, before: Mapping[str, Tensor]) -> dict[str, list[str]]:
        return {
            layer: names
            for layer, names in row_groups(before).items()
            if all("rows" in patch.changes.get(name, {}) for name in names)
        }
