"""The edit objective l_e: how far the reference label is from being the prediction."""

import torch
from torch import Tensor
from torch.nn import functional

from editable.errors import require_not_negative

__all__ = ["MarginObjective"]


class MarginObjective:
    """l_e = mean over the edited samples of max(0, margin + max_{y≠ref} log p(y|x) − log p(ref|x)).

    It is ≤ 0 exactly where every sample has its reference label ahead of all others by the margin; with margin 0 a tie
    counts as success. (Sinitsin et al., ICLR 2020.)

    Args:
        margin: By how much, in nats, the reference label has to lead.

    Raises:
        UserError: If the margin is negative.

    Example:
        >>> MarginObjective()(torch.tensor([[2.0, 5.0, 1.0]]), torch.tensor([0]))
        tensor(3.)
    """

    def __init__(self, margin: float = 0.0) -> None:
        require_not_negative(margin=margin)
        self.margin = margin

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the objective.

        Args:
            logits: Shape [N, C].
            targets: Reference labels, int64, shape [N].

        Returns:
            Scalar ≥ 0, in nats.
        """
        log_probabilities = functional.log_softmax(logits, dim=-1)
        is_reference = torch.arange(logits.shape[-1], device=logits.device) == targets.unsqueeze(-1)
        reference = torch.where(is_reference, log_probabilities, 0.0).sum(dim=-1)
        best_other = log_probabilities.masked_fill(is_reference, -torch.inf).amax(dim=-1)
        return functional.relu(self.margin + best_other - reference).mean()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(margin={self.margin})"
