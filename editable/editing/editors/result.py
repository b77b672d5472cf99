"""What an edit returns."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["EditResult"]


class EditResult(NamedTuple):
    """The outcome of one edit, or of E edits that ran at once.

    Attributes:
        params: Edited parameters by name; with a leading dimension E when E edits ran at once. To be applied by
            ``torch.func.functional_call``: the network itself is never changed.
        loss: The edit objective after the last step, shape [] or [E].
        success: Whether the objective reached ≤ 0, bool, shape [] or [E].
        num_steps: Number of updates made, int64, shape [] or [E].
    """

    params: dict[str, Tensor]
    loss: Tensor
    success: Tensor
    num_steps: Tensor
