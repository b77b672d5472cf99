"""Scale and shift of a new class's logit, such that it competes with the old classes' logits."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from editable.errors import UserError, require_within

__all__ = ["LogitCalibration", "calibrate_logit"]


class LogitCalibration(NamedTuple):
    """The new logit is z = a·q + b, q the filter's pooled map.

    Attributes:
        scale: a > 0.
        bias: b.
    """

    scale: float
    bias: float


def calibrate_logit(
    pooled: Tensor, old_logits: Tensor, max_loss: float = 0.01, scale: float | None = None
) -> LogitCalibration:
    """Choose scale and shift of a new logit on images of old classes.

    BCE to a silhouette fixes neither: it says how high a map is, not how high the logits of other classes are. The
    scale gives a·q the standard deviation of the largest old logit; the shift is the largest at which at most a part
    ``max_loss`` of the images is given to the new class. Neither changes the order of images by q.

    Args:
        pooled: q on images of old classes that the filter was not trained on, [N].
        old_logits: Of the same images, [N, K].
        max_loss: The part of them that may be given to the new class, from 0 to below 1.
        scale: a, where q has a scale of its own, such as log odds; by default it is chosen.

    Raises:
        UserError: If the part is out of range, a value is not finite, or q is the same for all images.
    """
    require_within("[0, 1)", max_loss=max_loss)
    largest, pooled = old_logits.double().amax(dim=1), pooled.double()
    if not (largest.isfinite().all() and pooled.isfinite().all()):
        raise UserError("logits must be finite to be calibrated")
    spread = pooled.std(correction=0)
    if len(pooled) < 2 or not spread > 1e-12 * pooled.abs().max():
        raise UserError(
            f"the new filter responds alike to all {len(pooled)} images of old classes, so that its logit cannot be "
            "calibrated"
        )
    factor = float(largest.std(correction=0) / spread) if scale is None else scale
    gaps = (largest - factor * pooled).sort().values
    allowed = math.floor(max_loss * len(gaps) + 1e-9)
    # Logits are computed in single precision: the image at the limit must not slip over it.
    slack = 1e-5 * torch.maximum(largest.abs().max(), (factor * pooled).abs().max())
    return LogitCalibration(factor, (gaps[allowed] - slack).item())
