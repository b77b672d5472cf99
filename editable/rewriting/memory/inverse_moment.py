"""The inverse of a second moment of keys, C⁻¹ and C^{-1/2}, by one eigendecomposition, regularised relative to C."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from editable.errors import UserError, require_not_negative
from editable.rewriting.memory.second_moment import SecondMoment

__all__ = ["InverseMoment", "Regularisation"]


@dataclass(frozen=True)
class Regularisation:
    r"""How eigenvalues λ of a second moment C are kept away from zero, relative to its mean diagonal entry.

    .. math:: s = \frac1c \operatorname{tr} C, \qquad
        \lambda \leftarrow \max(\lambda, \text{floor} \cdot s) \quad\text{or}\quad
        \lambda \leftarrow \lambda + \epsilon s

    The trace is also the sum of the eigenvalues, so s is their mean. Being relative to it, neither changes anything
    when C, that is the scale of the activations, is multiplied by a constant.

    Args:
        floor: Least eigenvalue, as a multiple of s; those above stay as they are.
        epsilon: Added to each eigenvalue, as a multiple of s: ridge regression with C + εsI. 0 leaves C as it is.

    Raises:
        UserError: If not exactly one of them is given, or it is negative.
    """

    floor: float | None = None
    epsilon: float | None = None

    def __post_init__(self) -> None:
        """Check what is given."""
        given = [value for value in (self.floor, self.epsilon) if value is not None]
        if len(given) != 1:
            raise UserError(
                f"give either floor or epsilon to regularise with, got floor={self.floor} and epsilon={self.epsilon}"
            )
        require_not_negative(floor=self.floor, epsilon=self.epsilon)

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        """Return the regularised eigenvalues of a matrix whose mean eigenvalue is 1; any shape."""
        return eigenvalues + self.epsilon if self.epsilon is not None else eigenvalues.clamp(min=self.floor)


class InverseMoment:
    """C⁻¹ and C^{-1/2} of a second moment of keys, as functions of keys.

    One eigendecomposition C = U diag(λ) Uᵀ in float64 serves both; of C scaled to a mean eigenvalue of 1, so that
    neither very small nor very large activations lose digits.

    The default, ε = 10⁻⁴, is meant for layers with channels that are always or nearly zero. Where there are none, the
    least eigenvalues of trained networks lie far above it (at 0.005 s or more in layers of ResNet-18 and
    EfficientNet-Lite0), and it changes nothing that matters.

    Args:
        moment: The second moment, or a symmetric matrix [c, c] with no negative eigenvalue.
        regularisation: How small eigenvalues are treated.

    Attributes:
        eigenvalues: Of the regularised C, ascending, float64 [c].
        scale: s, the mean eigenvalue of C before it was regularised.

    Raises:
        UserError: If the moment has no keys, is zero, not finite, not symmetric or has a negative eigenvalue, or is
            singular in spite of the regularisation.

    Example:
        >>> inverse = InverseMoment(torch.diag(torch.tensor([4.0, 1.0])), Regularisation(epsilon=0))
        >>> inverse.solve(torch.tensor([[8.0], [3.0]]))
        tensor([[2.],
                [3.]], dtype=torch.float64)
    """

    def __init__(
        self, moment: SecondMoment | Tensor, regularisation: Regularisation = Regularisation(epsilon=1e-4)
    ) -> None:
        matrix = (moment if isinstance(moment, SecondMoment) else SecondMoment.from_total(moment.detach(), 1)).mean
        self.regularisation = regularisation
        self.scale = float(matrix.trace()) / len(matrix)
        if not 0 < self.scale < math.inf:
            raise UserError(
                "the second moment is zero: the layer reads nothing but zeros on these images"
                if self.scale == 0
                else f"a second moment has a positive, finite diagonal, got a mean of {self.scale} on it"
            )
        raw, self._vectors = torch.linalg.eigh(matrix / self.scale)
        self._values = regularisation(_without_rounding(raw))
        self._check_condition()
        self.eigenvalues = self._values * self.scale

    @property
    def key_size(self) -> int:
        """The number of entries of a key, c."""
        return len(self._values)

    def solve(self, keys: Tensor) -> Tensor:
        """Return C⁻¹K.

        Args:
            keys: K, columns [c, S], of any floating type, on any device.

        Returns:
            float64 [c, S], on the device of the keys.

        Raises:
            UserError: If the shape is another, or a value is NaN or infinite.
        """
        return self._apply(keys, self._values.reciprocal()) / self.scale

    def whiten(self, keys: Tensor) -> Tensor:
        """Return C^{-1/2}K, of the symmetric root; arguments and result as of :meth:`solve`.

        Keys whose second moment is C get the unit matrix for theirs. Applied to directions of whitened keys it leads
        back to directions of keys, since C^{-1/2} C^{-1/2} = C⁻¹.
        """
        return self._apply(keys, self._values.rsqrt()) / math.sqrt(self.scale)

    def _apply(self, keys: Tensor, factors: Tensor) -> Tensor:
        if keys.ndim != 2 or len(keys) != self.key_size:
            raise UserError(f"keys must be columns [{self.key_size}, S], got shape {list(keys.shape)}")
        if not keys.isfinite().all():
            raise UserError("keys must be finite, and these hold NaN or infinite values")
        applied = self._vectors @ (factors[:, None] * (self._vectors.T @ keys.to(self._vectors)))
        return applied.to(keys.device)

    def _check_condition(self) -> None:
        least, most = float(self._values[0]), float(self._values[-1])
        limit = _rounding_of(self._values)
        if least <= limit:
            small = int((self._values <= limit).sum())
            raise UserError(
                f"the second moment is singular: {small} of its {self.key_size} eigenvalues are zero next to the "
                f"largest, {most * self.scale:.3g}; regularise it, as with Regularisation(epsilon=1e-4), or collect it "
                "over more images"
            )


def _without_rounding(eigenvalues: Tensor) -> Tensor:
    """Return eigenvalues, ascending, with those set to zero that are negative by rounding alone."""
    least = float(eigenvalues[0])
    if least < -1e-6 * float(eigenvalues[-1]):
        raise UserError(
            f"a second moment has no negative eigenvalues, but this matrix has one of {least:.3g} times the mean of all"
        )
    return eigenvalues.clamp(min=0)


def _rounding_of(eigenvalues: Tensor) -> float:
    """Return how far rounding may have moved each of the eigenvalues."""
    return len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps * float(eigenvalues[-1])
