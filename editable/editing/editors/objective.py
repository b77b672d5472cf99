"""The edit objective l_e: how far the reference label is from being the prediction."""

import torch
from torch import Tensor
from torch.nn import functional

from editable.errors import require_not_negative

__all__ = ["MarginObjective", "is_predicted"]


class MarginObjective:
    """l_e = mean over the edited samples of max(0, margin + max_{y≠ref} log p(y|x) − log p(ref|x)).

    It is ≤ 0 exactly where every sample has its reference label ahead of all others by the margin; with margin 0 a tie
    counts as success. (Sinitsin et al., ICLR 2020.)

    Args:
        margin: By how much, in nats, the reference label has to lead.
        strict: Ask besides that each reference label is predicted, its logit above all others: a tie is no success
            then, nor are probabilities that are equal only as rounded.

    Raises:
        UserError: If the margin is negative.

    Example:
        >>> MarginObjective()(torch.tensor([[2.0, 5.0, 1.0]]), torch.tensor([0]))
        tensor(3.)
    """

    def __init__(self, margin: float = 0.0, strict: bool = False) -> None:
        require_not_negative(margin=margin)
        self.margin = margin
        self.strict = strict

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
        behind = self.margin + best_other - reference
        # At 0, relu has no gradient: from a tie, which is no success here, it has to lead on.
        return (behind.where(~(behind < 0), 0.0) if self.strict else functional.relu(behind)).mean()

    def is_met(self, loss: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
        """Return whether an edit has succeeded, a bool scalar.

        Args:
            loss: The objective of these logits.
            logits: Shape [N, C].
            targets: Reference labels, int64, shape [N].
        """
        met = loss.detach() <= 0
        return met & is_predicted(logits.detach(), targets).all(dim=-1) if self.strict else met

    def __repr__(self) -> str:
        return f"{type(self).__name__}(margin={self.margin}{', strict=True' if self.strict else ''})"


def is_predicted(logits: Tensor, labels: Tensor) -> Tensor:
    """Return where a label is the prediction, its logit strictly above all others, bool [...].

    Args:
        logits: [..., C].
        labels: int64 [...].
    """
    is_label = torch.arange(logits.shape[-1], device=logits.device) == labels.unsqueeze(-1)
    own = logits.masked_fill(~is_label, -torch.inf).amax(dim=-1)
    return own > logits.masked_fill(is_label, -torch.inf).amax(dim=-1)
