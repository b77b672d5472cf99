"""The soft form of a linear layer's change: least squares against what other images have there (MEMIT's formula)."""

import torch
from torch import Tensor

from editable.editing.editors.site import EditSite
from editable.editing.linear.least_squares import LeastSquaresEditor
from editable.editing.linear.linear_layer import LinearLayer
from editable.errors import require_not_negative, require_positive
from editable.rewriting import InverseMoment, Regularisation

__all__ = ["RidgeEditor"]


class RidgeEditor(LeastSquaresEditor):
    r"""Changes one linear layer by ridge regression on what is asked of it, in the metric of what it reads.

    .. math:: Δ = R K^\top (λΣ + K K^\top)^{-1}

    with the keys K of edited samples, asked changes R of the layer's output (see :class:`LeastSquaresEditor`), and the
    second moment Σ of keys on other images. (MEMIT, Meng et al., ICLR 2023, eq. 14.) It minimises
    ‖ΔK − R‖² + λ·E‖Δk‖², so all that is asked counts against the mean square of what other images notice, and nothing
    is sure to be met; a greater margin or a smaller λ gets more labels through, at more harm.

    A stream made one by one is the same as all its samples together, to rounding.

    Args:
        strength: λ, how much the mean over other images weighs, in edited samples.
        margin: By how much, in logits, the asked label shall lead all others.
        epsilon: Added to each eigenvalue of Σ, relative to their mean.
        num_references: Number of images, neither edited nor judged, over which Σ is collected.

    Raises:
        UserError: If a number is out of its range; at a place whose editable layers are not one linear layer.

    See Also:
        :class:`~editable.editing.MinimalHarmEditor`, which meets all that is asked;
        :class:`~editable.editing.NullSpaceEditor`, which stays where other images have nothing.
    """

    def __init__(
        self, strength: float = 1.0, margin: float = 1.0, epsilon: float = 1e-4, num_references: int = 10_000
    ) -> None:
        super().__init__(margin, num_references)
        require_positive(strength=strength)
        require_not_negative(epsilon=epsilon)
        self.strength, self.epsilon = strength, epsilon

    def _inverse(self, layer: LinearLayer, site: EditSite) -> Tensor:
        inverse = InverseMoment(layer.second_moment(site, self.num_references), Regularisation(epsilon=self.epsilon))
        return inverse.solve(torch.eye(layer.key_size, dtype=torch.float64)) / self.strength
