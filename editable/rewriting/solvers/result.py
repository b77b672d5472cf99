"""What a rewrite returns."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from editable.errors import UserError, require_finite

__all__ = ["RewriteResult"]


class RewriteResult(NamedTuple):
    """The outcome of one rewrite by any solver.

    W₀ and W₁ are the layer's weight before and after as a memory matrix, ΔW = W₁ − W₀.

    Attributes:
        params: Changed parameters by name, detached. To be applied by ``torch.func.functional_call``: the network
            itself is never changed.
        loss_before: Mean absolute difference of the block's output from its targets inside the mask, before.
        loss: The same after, whatever the solver itself has minimised.
        residual: ‖W₁K* − V*‖ / ‖V*‖, how far the layer alone is from the constraints; absolute where V* = 0.
        rank: Numerical rank of ΔW: the number of its singular values that are above what rounding the weights to their
            data type may cause.
        norm: ‖Δθ‖, the Frobenius norm of the change of all changed parameters together.
        relative_norm: ‖Δθ‖ / ‖θ₀‖, both over the changed parameters.
        num_steps: Number of updates that were made; 0 for a closed form.
        seconds: Time that the solver took, without the measures above.
        losses: What the solver minimises, after 0, 1, …, ``num_steps`` updates; empty for a closed form.
    """

    params: dict[str, Tensor]
    loss_before: float
    loss: float
    residual: float
    rank: int
    norm: float
    relative_norm: float
    num_steps: int
    seconds: float
    losses: list[float]

    @torch.no_grad()
    def scaled(self, network: nn.Module, strength: float) -> dict[str, Tensor]:
        """Return the parameters of a weaker or stronger rewrite, θ₀ + s·Δθ.

        Args:
            network: The network that was rewritten, with its parameters as they were then.
            strength: s; 0 gives exactly the network's own parameters, 1 exactly the rewritten ones.

        Raises:
            UserError: If the strength is not finite, or the network lacks a changed parameter.
        """
        require_finite(strength=strength)
        own = dict(network.named_parameters(remove_duplicate=False))
        for name, changed in self.params.items():
            if name not in own or own[name].shape != changed.shape:
                raise UserError(
                    f"{type(network).__name__} has no parameter '{name}' of shape {list(changed.shape)}: "
                    "give the network that was rewritten"
                )
        return {name: torch.lerp(own[name], changed, strength) for name, changed in self.params.items()}
