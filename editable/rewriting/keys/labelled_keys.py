"""A rule from a few labelled images: what the layer shall recall where it sees what these have in common."""

from typing import NamedTuple

import torch
from torch import Tensor

from editable.errors import UserError

__all__ = ["LabelledKey", "labelled_key"]


class LabelledKey(NamedTuple):
    """A constraint W K* = V* on a layer.

    Attributes:
        keys: K*, float64 [c, 1].
        values: V*, float64 [f, 1].
    """

    keys: Tensor
    values: Tensor


def labelled_key(
    matrix: Tensor, keys: Tensor, labels: Tensor, known_keys: Tensor, keep_labels: bool = False
) -> LabelledKey:
    r"""Return what a layer shall recall for what labelled images have in common: what it does for known ones.

    .. math:: k_* = \frac1{|Y|} \sum_{y ∈ Y} \bar k_y, \qquad
        v_{*j} = \begin{cases} w_j^\top k_* & j ∈ Y \text{ and labels are kept} \\
                               w_j^\top k_° & \text{else} \end{cases}

    Y are the labels of the images, k̄_y the mean key of those with label y, k° the mean of known keys. k* is partly
    what all the images show (snow), partly their own classes. In the layer that gives the logits, the rule would hence
    also make these classes less likely; with ``keep_labels`` their logits for k* stay as they are, and others go to
    where they are for known images.

    Args:
        matrix: W₀ [f, c].
        keys: What the layer reads of the images, a mean key each, [n, c].
        labels: Their labels, int64 [n].
        known_keys: The same of images of what the new concept shall be taken for, [m, c].
        keep_labels: For the layer that gives the logits.

    Raises:
        UserError: If shapes do not fit, there is no image or no known one, or a kept label is no row of the matrix.

    See Also:
        :func:`~editable.rewriting.closed_form_update`, the least change that meets the constraint.
    """
    expected = matrix.shape[1]
    for name, some in (("keys", keys), ("known keys", known_keys)):
        if some.ndim != 2 or not len(some) or some.shape[1] != expected:
            raise UserError(f"{name} must be rows [n, {expected}], at least one of them, got shape {list(some.shape)}")
    if labels.shape != keys.shape[:1]:
        raise UserError(f"{len(keys)} keys need as many labels, got shape {list(labels.shape)}")
    own = labels.unique()
    if keep_labels and (int(own[0]) < 0 or int(own[-1]) >= len(matrix)):
        raise UserError(f"labels are {own.tolist()}, but the layer has {len(matrix)} outputs, counted from 0")
    matrix, keys, known_keys = matrix.double(), keys.double(), known_keys.double()
    key = torch.stack([keys[labels == label].mean(dim=0) for label in own]).mean(dim=0)[:, None]
    values = matrix @ known_keys.mean(dim=0)[:, None]
    if keep_labels:
        values[own] = matrix[own] @ key
    return LabelledKey(key, values)
