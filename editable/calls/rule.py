"""What comes of asking for a rewrite: what it does, what it costs, and the patch that makes it."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from editable.calls.fix import changed_copy
from editable.editing import EditPatch
from editable.editing.choosing.tried import Harm
from editable.rewriting import RewriteResult, Solver

__all__ = ["Rule"]


@dataclass(frozen=True, repr=False)
class Rule:
    """A rewrite of a network that has not been made yet: print it, then ``rule.patch.apply_(network)``, or leave it.

    Attributes:
        layer: That is rewritten.
        solver: By which.
        wanted: Labels that the manipulated exemplars shall have, int64 [n].
        before: What the unedited network predicts for them, int64 [n].
        after: What the rewritten network predicts for them, int64 [n].
        harm: What it costs; none where nothing judges it.
        result: What the solver has returned: rank, norm and residual of the change.
        patch: The change, apart from the network.
    """

    layer: str
    solver: Solver
    wanted: Tensor
    before: Tensor
    after: Tensor
    harm: Harm | None
    result: RewriteResult
    patch: EditPatch
    _unedited: nn.Module

    @cached_property
    def network(self) -> nn.Module:
        """A copy of the network with the rewrite, in evaluation mode; the network itself is as it was."""
        return changed_copy(self._unedited, self.patch)

    def __repr__(self) -> str:
        before, after = (int((some == self.wanted).sum()) for some in (self.before, self.after))
        return "\n".join(
            [
                f"{self.layer} rewritten by {type(self.solver).__name__}, rank {self.result.rank}; nothing is changed "
                "until rule.patch.apply_(network)",
                f"  {before} → {after} of {len(self.wanted)} manipulated exemplars are taken for what they should be",
                f"harm: {self.harm or 'not measured, for there is no judge'}",
            ]
        )
