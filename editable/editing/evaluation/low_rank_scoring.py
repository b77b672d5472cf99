"""Edits of one linear layer by a low rank, scored on all images for all edits as one product."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from editable.editing.evaluation.feature_store import FeatureStore
from editable.models import LinearTail

__all__ = ["LowRankChanges", "low_rank_changes", "predict_low_rank"]

MOST_RANK = 32  # above, running the suffix with each edit's own parameters costs no more
BLOCK = 2**20  # logits computed at once: they stay in the caches
IMAGES_AT_ONCE = 1024


class LowRankChanges(NamedTuple):
    """Changes of logits by E edits, U Vᵀ for a key; ranks below the largest are filled up with zeros.

    Attributes:
        left: U, [E, C, r].
        right: Vᵀ, [E, r, d].
        slack: How much more rounding they make possible, for a key of length 1, [E].
        rest: What U Vᵀ leaves out at most, for a key of length 1, [E].
    """

    left: Tensor
    right: Tensor
    slack: Tensor
    rest: Tensor


def low_rank_changes(tail: LinearTail, edited: Sequence[Mapping[str, Tensor]]) -> tuple[LowRankChanges, Tensor]:
    r"""Factorise the changes that edits have made.

    Whatever has made them: closed forms; GD, scaled GD and momentum, whose rank is at most steps × samples; a stream.
    The rank is found in the change itself, by Gram–Schmidt on its rows, the longest remaining one first: each step
    takes v = row/‖row‖ and u = Rv off the rest R, until this is as small as the rounding of the parameters.

    Args:
        tail: What lies behind the edited layer.
        edited: E ≥ 1 sets of parameters.

    Returns:
        The changes of those edits whose rank is at most 32, which is always so with as few classes, and which they are,
        bool [E].
    """
    parts = [_factorised(tail, edited[some]) for some in _blocks(len(edited), tail.change(edited[0]).numel())]
    ranks = [changes.right.shape[1] for changes, _ in parts]
    padded = [
        (pad(left, (0, max(ranks) - rank)), pad(right, (0, 0, 0, max(ranks) - rank)), *others)
        for ((left, right, *others), _), rank in zip(parts, ranks, strict=True)
    ]
    return LowRankChanges(*map(torch.cat, zip(*padded, strict=True))), torch.cat([fits for _, fits in parts])


def _factorised(tail: LinearTail, edited: Sequence[Mapping[str, Tensor]]) -> tuple[LowRankChanges, Tensor]:
    rest = torch.stack([tail.change(params) for params in edited])
    slack, rounding = (torch.stack(some) for some in zip(*(tail.rounding(params) for params in edited), strict=True))
    full = min(rest.shape[1:])
    left, right = rest.new_zeros(len(rest), rest.shape[1], 0), rest.new_zeros(len(rest), 0, rest.shape[2])
    lengths = rest.norm(dim=2)
    while right.shape[1] < min(MOST_RANK, full) and bool((lengths.amax(dim=1) > rounding).any()):
        longest, row = lengths.max(dim=1)
        direction = rest.gather(1, row[:, None, None].expand(-1, 1, rest.shape[2]))
        direction = direction / longest.clamp(min=torch.finfo(rest.dtype).tiny)[:, None, None]
        share = rest @ direction.mT
        rest = rest - share * direction
        left, right = torch.cat([left, share], dim=2), torch.cat([right, direction], dim=1)
        lengths = rest.norm(dim=2)
    left_out = lengths.amax(dim=1)
    fits = left_out.isfinite() if right.shape[1] == full else left_out <= rounding
    chosen = fits.nonzero().flatten()
    return LowRankChanges(*(field.index_select(0, chosen) for field in (left, right, slack, left_out))), fits


@torch.no_grad()
def predict_low_rank(
    tail: LinearTail,
    store: FeatureStore,
    changes: LowRankChanges,
    progress: Callable[[float], object],
    low: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Predict for all images and edits, from logits z + U(Vᵀh).

    Args:
        tail: Gives keys h and logits z of the unedited network.
        store: Features of N images.
        changes: Of E edits.
        progress: Called with the number of edits done since the last call.
        low: Precision of the two products, whose sums are made in float32: by default that of the network.

    Returns:
        Predictions, int64 [E, N], and which of them are in doubt, bool [E, N]: the two largest logits are so near to
        each other that rounding could exchange them.
    """
    number = len(changes.slack)
    predictions = torch.zeros(number, len(store), dtype=torch.int64, device=store.device)
    doubtful = torch.zeros_like(predictions, dtype=torch.bool)
    coarse = _rounding_of(low) * changes.left.abs().sum(dim=2).amax(dim=1)
    position = 0
    for features, labels in store.batches(IMAGES_AT_ONCE) if number else ():
        keys, logits, slack = tail(features)
        images = slice(position, position + len(labels))
        lengths = keys.norm(dim=1)
        columns, base = keys.T.contiguous(), logits.T.contiguous()
        for edits in _blocks(number, base.numel()):
            left, right, own_slack, rest = (field[edits] for field in changes)
            edited = _edited_logits(left, right, columns, base, low)
            first, label = edited.max(dim=1)
            second = edited.scatter_(1, label.unsqueeze(1), -torch.inf).amax(dim=1)
            predictions[edits, images] = label
            # Both logits, as computed here and as by running the network
            allowed = 4 * (slack + own_slack[:, None] * lengths) + 2 * (rest + coarse[edits])[:, None] * lengths
            doubtful[edits, images] = ~(first - second > allowed)
            progress(len(left) * len(labels) / len(store))
        position += len(labels)
    return predictions, doubtful


def _edited_logits(left: Tensor, right: Tensor, columns: Tensor, base: Tensor, low: torch.dtype | None) -> Tensor:
    """Return z + U(Vᵀh), [E, C, n], from keys [d, n] and the logits [C, n] of the unedited network."""
    if low is None:
        inner = (right.flatten(0, 1) @ columns).unflatten(0, right.shape[:2])
        return torch.baddbmm(base.expand(len(left), -1, -1), left, inner)
    with _sums_in_float32():
        inner = (right.to(low).flatten(0, 1) @ columns.to(low)).unflatten(0, right.shape[:2])
        return base + (left.to(low) @ inner).to(base.dtype)


def _rounding_of(low: torch.dtype | None) -> float:
    """Return by how much products in a precision differ, to Σ|U| for a key of length 1.

    Five roundings by at most ε/2 each: of V and h, of Vᵀh, at most 1 as rows of Vᵀ have length 1, of U and of U(Vᵀh).
    """
    return (1 + torch.finfo(low).eps / 2) ** 5 - 1 if low else 0.0


@contextmanager
def _sums_in_float32() -> Iterator[None]:
    """Let products of half precision be added up in float32 on CUDA, which else may add parts of sums in half."""
    products = torch.backends.cuda.matmul
    before = products.allow_bf16_reduced_precision_reduction
    products.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        products.allow_bf16_reduced_precision_reduction = before


def _blocks(number: int, size: int) -> Iterator[slice]:
    step = max(1, BLOCK // size)
    return (slice(start, min(start + step, number)) for start in range(0, number, step))
