"""A linear layer's change in directions that other images hardly have (AlphaEdit's projection)."""

import torch
from torch import Tensor

from editable.editing.editors.site import EditSite
from editable.editing.linear.least_squares import LeastSquaresEditor
from editable.editing.linear.linear_layer import LinearLayer
from editable.errors import UserError, require_positive, require_within

__all__ = ["NullSpaceEditor"]


class NullSpaceEditor(LeastSquaresEditor):
    r"""Changes one linear layer in the directions alone that hold the least of what other images have there.

    .. math:: Δ = R K^\top P (K K^\top P + γI)^{-1}, \qquad P = U U^\top

    with the keys K of edited samples and asked changes R of the layer's output (see :class:`LeastSquaresEditor`). U are
    eigenvectors of the second moment Σ of keys on other images: as many as together hold no more than a share of its
    trace, from the least on. What other images have there is all that they can notice. (AlphaEdit, Fang et al., ICLR
    2025; it takes eigenvalues below 0.01, and γ = 1.) In a stream the keys of earlier edits, which are columns of K,
    hold what was asked of them; made one by one it is the same as all together, to rounding.

    Hardly any direction of a trained layer is empty: :class:`~editable.editing.MinimalHarmEditor` and
    :class:`~editable.editing.RidgeEditor` weigh all of them instead.

    Args:
        energy: Largest share of tr Σ that the directions of the change hold together.
        penalty: γ, relative to the mean eigenvalue of Σ.
        margin: By how much, in logits, the asked label shall lead all others.
        num_references: Number of images, neither edited nor judged, over which Σ is collected.

    Raises:
        UserError: If a number is out of its range; at a place whose editable layers are not one linear layer, or where
            even the least direction holds a greater share.
    """

    def __init__(
        self, energy: float = 0.01, penalty: float = 1e-3, margin: float = 1.0, num_references: int = 10_000
    ) -> None:
        super().__init__(margin, num_references)
        require_within("(0, 1)", energy=energy)
        require_positive(penalty=penalty)
        self.energy, self.penalty = energy, penalty

    def _inverse(self, layer: LinearLayer, site: EditSite) -> Tensor:
        moment = layer.second_moment(site, self.num_references).mean
        eigenvalues, vectors = torch.linalg.eigh(moment)
        total = float(eigenvalues.sum())
        if not total:
            raise UserError(f"'{layer.name}' reads nothing but zeros on reference images, and nothing is to be kept")
        shares = eigenvalues.clamp(min=0).cumsum(dim=0) / total
        empty = vectors[:, shares <= self.energy]
        if not empty.shape[1]:
            raise UserError(
                f"none of the {layer.key_size} directions that '{layer.name}' reads is empty enough to be changed: the "
                f"least holds {float(shares[0]):.3g} of the energy, and energy is {self.energy:g}; take a greater "
                "energy, or RidgeEditor"
            )
        return empty @ empty.T / (self.penalty * total / layer.key_size)
