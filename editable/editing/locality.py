"""The locality term of editable training: how much an edit moves the predictions on other inputs."""

from torch import Tensor
from torch.nn import functional

__all__ = ["kl_locality"]


def kl_locality(base_logits: Tensor, edited_logits: Tensor, detach_base: bool = True) -> Tensor:
    """L_loc = E_x KL(p(·|x, θ) ‖ p(·|x, Edit(θ))), the mean over samples.

    Args:
        base_logits: Before the edit, shape [..., N, C].
        edited_logits: After the edit, shape [..., N, C]; leading dimensions of the two broadcast, as for E edits
            measured against one base.
        detach_base: Let no gradient flow into the base probabilities (published); the original slides let it.

    Returns:
        Scalar ≥ 0, in nats.
    """
    base_logits = base_logits.detach() if detach_base else base_logits
    base = functional.log_softmax(base_logits, dim=-1)
    edited = functional.log_softmax(edited_logits, dim=-1)
    return functional.kl_div(edited, base, reduction="none", log_target=True).sum(dim=-1).mean()
