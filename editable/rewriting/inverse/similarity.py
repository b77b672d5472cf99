"""How alike features are: by their direction, over the positions of a mask, or position by position."""

import torch
from torch import Tensor
from torch.nn import functional

from editable.errors import UserError

__all__ = ["masked_similarity", "position_similarity"]


def masked_similarity(first: Tensor, second: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Return the cosine similarity of features under a mask, each item flattened to one vector.

    .. math:: \sum_p w_p \langle a_p, b_p\rangle \Big/
        \sqrt{\sum_p w_p \lVert a_p\rVert^2 \sum_p w_p \lVert b_p\rVert^2}

    Args:
        first: [n, c, H, W], or of any other shape [n, …] without a mask.
        second: Of the same shape.
        mask: w, not negative, [n, H, W]; by default all entries count the same.

    Returns:
        [n], in [−1, 1]; 0 where one of them is zero under the mask.

    Raises:
        UserError: If shapes do not fit.
    """
    if first.shape != second.shape:
        raise UserError(f"features of one shape can be compared, got {list(first.shape)} and {list(second.shape)}")
    if mask is not None:
        if first.ndim != 4 or mask.shape != (len(first), *first.shape[-2:]):
            raise UserError(f"features {list(first.shape)} need a mask [n, H, W] of their size, got {list(mask.shape)}")
        root = mask.to(first).sqrt().unsqueeze(1)
        first, second = first * root, second * root
    return torch.cosine_similarity(first.flatten(1), second.flatten(1), dim=1)


def position_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosine similarity of the features at each position.

    Args:
        first: [n, c, H, W].
        second: Of the same shape.

    Returns:
        [n, H, W], in [−1, 1].

    Raises:
        UserError: If shapes do not fit.

    Source: Elango 2021, fig. 3-4, dot products of corresponding points; here of unit length.
    """
    if first.shape != second.shape or first.ndim != 4:
        raise UserError(
            f"features must be two [n, c, H, W] of one shape, got {list(first.shape)}, {list(second.shape)}"
        )
    return functional.cosine_similarity(first, second, dim=1)
