"""The two losses of a generative adversarial network: what its discriminator and its generator minimise."""

from typing import Literal, get_args

from torch import Tensor
from torch.nn import functional

from editable.errors import UserError

__all__ = ["AdversarialLoss", "LossKind"]

LossKind = Literal["hinge", "non_saturating"]


class AdversarialLoss:
    r"""Losses of discriminator D and generator G, from the scores that D gives to real and generated images.

    ``hinge`` (Lim and Ye 2017; Miyato et al. 2018):

    .. math:: L_D = E\max(0, 1 - D(x)) + E\max(0, 1 + D(G(z))), \qquad L_G = -E\,D(G(z))

    ``non_saturating`` (Goodfellow et al. 2014), with σ the logistic function:

    .. math:: L_D = -E\log\sigma(D(x)) - E\log(1 - \sigma(D(G(z)))), \qquad L_G = -E\log\sigma(D(G(z)))

    Args:
        kind: Which of them.

    Raises:
        UserError: If it is another.
    """

    def __init__(self, kind: LossKind = "hinge") -> None:
        if kind not in get_args(LossKind):
            raise UserError(f"the adversarial loss must be one of {', '.join(get_args(LossKind))}, got {kind!r}")
        self.kind = kind

    def discriminator(self, real: Tensor, generated: Tensor) -> Tensor:
        """Return L_D, a scalar, for scores [N] of real and [M] of generated images."""
        if self.kind == "hinge":
            return functional.relu(1 - real).mean() + functional.relu(1 + generated).mean()
        return functional.softplus(-real).mean() + functional.softplus(generated).mean()

    def generator(self, generated: Tensor) -> Tensor:
        """Return L_G, a scalar, for scores [N] of generated images."""
        return -generated.mean() if self.kind == "hinge" else functional.softplus(-generated).mean()
