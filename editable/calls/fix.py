"""What comes of asking for an edit: what it does, what it costs, what it holds for, and the patch that makes it."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from editable.editing import BaseEditor, EditPatch
from editable.editing.choosing.tried import Harm, Tried

__all__ = ["Fix", "changed_copy"]

MOST_NAMED, MOST_COMPARED = 8, 3
"""Images that a line names one by one, and candidates beside the chosen one."""


@dataclass(frozen=True, repr=False)
class Fix:
    """An edit of a network that has not been made yet: print it, then ``fix.patch.apply_(network)``, or leave it.

    Attributes:
        asked: Labels asked for, int64 [N].
        before: Probabilities of the unedited network, [N, classes].
        after: Probabilities of the edited network, [N, classes].
        classes: Names of the classes by label; numbers where nobody knows them.
        num_steps: Updates that the edit took.
        editor: That was chosen or given.
        layers: Names of the layers that it changes.
        harm: What it costs; none where nothing judges it.
        num_views: Views of each image that were edited with it.
        holds: For each kind of view, how many of the edited images' views have the labels, and how many there are.
        tried: All candidates, in their order.
        chosen: The one that it is.
        patch: The change, apart from the network.
    """

    asked: Tensor
    before: Tensor
    after: Tensor
    classes: list[str]
    num_steps: int
    editor: BaseEditor
    layers: tuple[str, ...]
    harm: Harm | None
    num_views: int
    holds: Mapping[str, tuple[int, int]]
    tried: list[Tried]
    chosen: Tried
    patch: EditPatch
    _unedited: nn.Module

    @cached_property
    def network(self) -> nn.Module:
        """A copy of the network with the edit, in evaluation mode; the network itself is as it was."""
        return changed_copy(self._unedited, self.patch)

    @property
    def success(self) -> bool:
        """Whether all images have the labels asked for; an edit without success is none."""
        return bool((self.after.argmax(dim=1) == self.asked).all())

    def __repr__(self) -> str:
        number = len(self.asked)
        views = f", with {self.num_views} views of each, shifted and flipped," if self.num_views else ""
        steps = f"{self.num_steps} step{'s' * (self.num_steps != 1)}"
        lines = [
            f"{number} image{'s' * (number > 1)}{views} corrected in {steps} by "
            f"{self.chosen.title}; nothing is changed until fix.patch.apply_(network)",
            *(f"  {self._line(image)}" for image in range(min(number, MOST_NAMED))),
        ]
        if number > MOST_NAMED:
            lines.append(f"  … and {number - MOST_NAMED} more")
        lines.append(f"harm: {self.harm or 'not measured, for there is no judge'}")
        if self.harm is not None and self.harm.broken:
            named = ", ".join(map(str, self.harm.broken[:MOST_NAMED]))
            more = f" and {len(self.harm.broken) - MOST_NAMED} more" if len(self.harm.broken) > MOST_NAMED else ""
            lines.append(f"breaks the judge's images {named}{more}")
        if self.holds:
            lines.append(
                f"holds for {', '.join(f'{name} {held} of {all_}' for name, (held, all_) in self.holds.items())}"
            )
        if len(self.tried) > 1:
            lines.append(f"chosen by least harm among {len(self.tried)}: {self._others}")
        return "\n".join(lines)

    @property
    def _others(self) -> str:
        """The candidates that were not chosen, in words: the next by harm, and how many do not succeed."""
        others = [some for some in self.tried if some is not self.chosen]
        next_ones = sorted((some for some in others if some.harm is not None), key=lambda some: some.harm.points)  # type: ignore[union-attr]
        failed = sum(not some.success for some in others)
        words = [str(some) for some in next_ones[:MOST_COMPARED]]
        if failed:
            words.append(f"{failed} do not give all images their labels")
        return "; ".join(words)

    def _line(self, image: int) -> str:
        now, then = self.after[image], self.before[image]
        was, is_ = int(then.argmax()), int(now.argmax())
        return (
            f"{self.classes[was]} ({_percent(then[was])}) → {self.classes[is_]} ({_percent(now[is_])}, "
            f"{_percent(then[is_])} before)"
        )


def changed_copy(network: nn.Module, patch: EditPatch) -> nn.Module:
    """Return a copy of a network with a patch, in evaluation mode."""
    changed = copy.deepcopy(network).eval()
    patch.apply_(changed)
    return changed


def _percent(share: Tensor) -> str:
    return f"{100 * float(share):.0f} %"
