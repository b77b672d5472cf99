"""Keys of a concept in context: masks laid over a map of keys, the mean key, and the directions that the keys span."""

from typing import NamedTuple

import torch
from torch import Tensor

from editable.errors import UserError, require_at_least
from editable.rewriting.memory.inverse_moment import InverseMoment

__all__ = ["Directions", "key_directions", "mean_key", "resize_mask", "span_directions"]


class Directions(NamedTuple):
    """Directions of the space of keys that a rule may change a weight along, W ← W + Λ Dᵀ.

    Attributes:
        vectors: D, orthonormal columns, float64 [c, r]; each has a product with the sum of the keys that is positive.
        singular_values: Of the whitened keys, descending, float64 [r].
    """

    vectors: Tensor
    singular_values: Tensor


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Lay masks over a grid of another size: the mean of the mask over each cell, in exact proportion to area.

    The mask is taken to be constant on each of its pixels. Nothing is rounded to 0 or 1, and no part of a mask is lost,
    however small: the mean over the grid is that of the mask.

    Args:
        mask: Between 0 and 1, [n, H, W], floating or bool.
        size: Height and width (h, w) of the grid, such as ``memory.key_map_size(…)``; larger ones are allowed.

    Returns:
        [n, h, w], floating.

    Raises:
        UserError: If the mask is no such tensor, or a length of the grid is below 1.
    """
    mask = mask.to(torch.get_default_dtype()) if mask.dtype == torch.bool else mask
    if mask.ndim != 3 or not mask.numel() or not mask.is_floating_point():
        raise UserError(f"masks must be floating [n, H, W], got shape {list(mask.shape)} of {mask.dtype}")
    if not bool(((mask >= 0) & (mask <= 1)).all()):
        raise UserError(f"masks must lie between 0 and 1, got values from {mask.min():.4g} to {mask.max():.4g}")
    require_at_least(1, height=size[0], width=size[1])
    rows, columns = (_overlaps(old, new).to(mask) for old, new in zip(mask.shape[1:], size, strict=True))
    return (rows @ mask @ columns.T).clamp(0, 1)


def mean_key(keys: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of keys, weighted by a mask, over all positions of all exemplars: k* = Σ w k / Σ w.

    Args:
        keys: [n, c, P].
        weights: The mask on the map of keys, flattened, not negative, [n, P].

    Returns:
        float64 [c, 1].

    Raises:
        UserError: If shapes do not fit, the mask of an exemplar is empty, or a value is NaN or infinite.
    """
    keys, weights = _checked(keys, weights)
    return torch.einsum("ncp,np->c", keys, weights)[:, None] / weights.sum()


def span_directions(keys: Tensor, inverse: InverseMoment) -> Directions:
    """Return orthonormal directions that span C⁻¹K, those along which the closed form changes a weight.

    For one key it is C⁻¹k of unit length; of several, the j-th direction lies in the span of the first j columns.

    Args:
        keys: K, columns of full rank, [c, S], such as one :func:`mean_key` for each of S rules.
        inverse: Of the second moment C of all keys.

    Raises:
        UserError: If the shape is another, a value is NaN or infinite, or columns depend on each other.
    """
    white = inverse.whiten(keys)
    if keys.shape[1] == 0 or _rank(torch.linalg.svdvals(white), white.shape) < keys.shape[1]:
        raise UserError(
            f"the {keys.shape[1]} keys do not span as many directions: one of them is zero, or depends on the others"
        )
    summed = keys.to(white).sum(dim=1)
    return Directions(_orthonormal(inverse.whiten(white), summed), torch.linalg.svdvals(white))


def key_directions(keys: Tensor, weights: Tensor, inverse: InverseMoment, rank: int) -> Directions:
    r"""Return orthonormal directions for the keys of a concept, by a singular value decomposition of whitened keys.

    The top right singular vectors u₁ … u_r of the rows :math:`w_p (C^{-1/2} k_p)^\top`, p over all positions of all
    exemplars, mapped back to :math:`C^{-1/2} u_i`, and made orthonormal in this order by QR (Bau et al. 2020,
    "Rewriting a deep generative model"). For a single key under the mask the one direction is that of C⁻¹k.

    Args:
        keys: [n, c, P].
        weights: The mask on the map of keys, flattened, not negative, [n, P].
        inverse: Of the second moment C of all keys.
        rank: r, the number of directions.

    Raises:
        UserError: If shapes do not fit, the mask of an exemplar is empty, a value is NaN or infinite, or the keys under
            the mask span fewer than r directions.

    See Also:
        :func:`span_directions` of a :func:`mean_key`, the other way to a single direction.
    """
    require_at_least(1, rank=rank)
    keys, weights = _checked(keys, weights)
    rows = (keys * weights[:, None]).transpose(0, 1).flatten(1)[:, weights.flatten() > 0]
    _, values, vectors = torch.linalg.svd(inverse.whiten(rows).T, full_matrices=False)
    available = _rank(values, rows.shape)
    if rank > available:
        raise UserError(
            f"rank {rank} needs as many independent keys under the mask, which has {rows.shape[1]} of rank {available}"
            if available
            else "every key under the mask is zero: the layer reads nothing but zeros there"
        )
    back = inverse.whiten(vectors[:rank].T)
    return Directions(_orthonormal(back, rows.sum(dim=1)), values[:rank])


def _overlaps(old: int, new: int) -> Tensor:
    """Return how much of each of ``new`` equal cells is covered by each of ``old`` equal pixels, float64 [new, old]."""
    # In units of 1 / (old · new) of the length all borders are whole numbers.
    pixels, cells = (torch.arange(count + 1) * (old * new // count) for count in (old, new))
    ends = torch.minimum(cells[1:, None], pixels[None, 1:])
    starts = torch.maximum(cells[:-1, None], pixels[None, :-1])
    return (ends - starts).clamp(min=0).double() / old


def _orthonormal(vectors: Tensor, summed: Tensor) -> Tensor:
    """Return the Q of QR, with signs such that each column has a positive product with the sum of the keys."""
    basis = torch.linalg.qr(vectors).Q
    products = summed @ basis
    largest = basis.gather(0, basis.abs().argmax(dim=0, keepdim=True))[0]
    # Orthogonal to the sum, but for rounding: the largest entry decides.
    undecided = products.abs() <= 1e-10 * summed.norm()
    return basis * torch.where(undecided, largest, products).sign()


def _rank(singular_values: Tensor, shape: torch.Size) -> int:
    limit = max(shape) * torch.finfo(singular_values.dtype).eps * singular_values.max()
    return int((singular_values > limit).sum())


def _checked(keys: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return keys [n, c, P] and weights [n, P] in float64, if they fit each other and no mask is empty."""
    if keys.ndim != 3 or weights.shape != (keys.shape[0], keys.shape[2]):
        raise UserError(
            f"keys [n, c, P] need a mask with as many exemplars and positions, [n, P], got shapes {list(keys.shape)} "
            f"and {list(weights.shape)}: lay the mask over the map of keys by resize_mask"
        )
    if not keys.isfinite().all():
        raise UserError(
            "the exemplars' keys hold NaN or infinite values: look at their images and the weights before the layer"
        )
    if not bool((weights >= 0).all()) or not weights.isfinite().all():
        raise UserError("a mask must hold no negative, NaN or infinite weights")
    empty = (weights.sum(dim=1) == 0).nonzero().flatten().tolist()
    if empty or not len(weights):
        which = f"exemplar {empty[0]} (counted from 0)" if empty else "all exemplars, of which there are none,"
        raise UserError(f"the mask of {which} is empty: mark where the concept is")
    return keys.double(), weights.to(keys.device, torch.float64)
