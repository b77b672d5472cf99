"""How a patch holds a changed tensor: in few bytes, exactly, there and back."""

import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["Parts", "changed_rows", "decoded", "encoded", "form", "same_bits", "staying_rows", "taken_back"]

Parts = dict[str, Tensor]
"""What a file holds of one tensor, by the part's name; see ``docs/patch-format.md``."""

SMALL = 2**10  # entries; fewer are not worth a look at their rank
WIDE = 2**11  # the shorter side of a matrix whose rank is looked at
SURE = 16  # how far above what rounding makes of nothing an eigenvalue has to be


def encoded(before: Tensor, after: Tensor) -> Parts:
    """Return what it takes to make one tensor of another of the same shape and type, and the other way round.

    Bits that differ, at a few places or packed at all; or a change of low rank and the bits in which it, rounded, is
    not the tensor: whichever is smallest.

    Args:
        before: [...], on the CPU.
        after: [...], on the CPU.
    """
    differing = _bytes(before) ^ _bytes(after)
    where = differing.any(dim=1).nonzero().flatten()
    if len(where) * (4 + before.element_size()) <= before.nbytes // 64:
        indices = where.to(torch.int32 if before.numel() < 2**31 else torch.int64)
        return {"indices": indices, "bits": differing[where]}
    low_rank = _low_rank(before, after) if 8 * len(where) > before.numel() else None
    if low_rank is not None and 4 * _size(low_rank) < before.nbytes:
        return low_rank
    packed = {"xor": _packed(differing)}
    return packed if low_rank is None or _size(packed) <= _size(low_rank) else low_rank


def changed_rows(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Parts]:
    """Return what it takes to make the tensors of one layer with more rows, or others, of those that it had.

    Args:
        before: Its tensors by name, each [R, ...], of the same rows.
        after: The same, with [S, ...]; rows that stay come first, in their order.
    """
    stays = staying_rows(before, after)
    number, removed = int(stays.sum()), (~stays).nonzero().flatten()
    parts: dict[str, Parts] = {}
    for name, own in before.items():
        parts[name] = {"rows": after[name][number:].clone()}
        if len(removed):
            parts[name] |= {"removed_at": removed.clone(), "removed": own[removed].clone()}
    return parts


def staying_rows(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Tensor:
    """Return which rows of a layer are still there, bool [R], where those that stay come first, in their order.

    Args:
        before: The layer's tensors by name, each [R, ...].
        after: The same, with [S, ...].
    """
    rows, others = (len(next(iter(some.values()))) for some in (before, after))
    stays = torch.zeros(rows, dtype=torch.bool)
    row = other = 0
    while row < rows and other < others:
        number = min(rows - row, others - other)
        same = torch.ones(number, dtype=torch.bool)
        for name, own in before.items():
            pair = (own[row : row + number], after[name][other : other + number])
            same &= (_bytes(pair[0]) == _bytes(pair[1])).view(number, -1).all(dim=1)
        ahead = number if bool(same.all()) else int((~same).nonzero()[0])
        stays[row : row + ahead] = True
        row, other = row + ahead + (ahead < number), other + ahead
    return stays


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are the same, the signs of their zeros included."""
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(_bytes(one), _bytes(other))


def decoded(before: Tensor, parts: Parts) -> Tensor:
    """Return the tensor with the change.

    Args:
        before: Without it.
        parts: What is held of the change.

    Raises:
        ValueError: Or another error of Python's or torch's, if the parts are not of such a tensor.
    """
    value = parts["whole"] if set(parts) == {"whole"} else before
    if "rows" in parts:
        stays = torch.ones(len(value), dtype=torch.bool)
        stays[parts.get("removed_at", torch.zeros(0, dtype=torch.int64))] = False
        return torch.cat([value[stays], parts["rows"]])
    return _changed(_shifted(value, parts, 1), parts, "xor")


def taken_back(after: Tensor, parts: Parts) -> Tensor:
    """Return the tensor without the change; errors as of :func:`decoded`.

    Raises:
        KeyError: If the parts do not tell, since they have nothing but a whole new tensor.
    """
    if "rows" in parts:
        number = len(after) - len(parts["rows"])
        if number < 0 or not same_bits(after[number:], parts["rows"]):
            raise ValueError("the rows are not there")
        if "removed" not in parts:
            return after[:number].clone()
        before = after.new_empty(number + len(parts["removed"]), *after.shape[1:])
        stays = torch.ones(len(before), dtype=torch.bool)
        stays[parts["removed_at"]] = False
        before[stays], before[parts["removed_at"]] = after[:number], parts["removed"]
        return before
    if set(parts) == {"whole"}:
        raise KeyError("whole")
    return _changed(_shifted(after, parts, -1), parts, "xor_back" if "u" in parts else "xor")


def form(parts: Parts) -> str:
    """Return in words how a tensor is held."""
    if "rows" in parts:
        removed = f", {len(parts['removed'])} fewer" if "removed" in parts else ""
        return f"{len(parts['rows'])} rows{removed}"
    if "u" in parts:
        return f"rank {len(parts['u'])} and rounding"
    if "indices" in parts:
        return f"{len(parts['indices'])} entries"
    return "bits, packed" if "xor" in parts else "whole"


def _changed(value: Tensor, parts: Parts, name: str) -> Tensor:
    """Return a tensor with the bits changed that parts tell of."""
    if "indices" not in parts and name not in parts:
        return value.clone()
    own = _bytes(value)
    if "indices" in parts:
        indices = parts["indices"].long()
        own = own.clone()
        own[indices] ^= parts["bits"]
    else:
        own = own ^ _unpacked(parts[name], own.shape)
    return own.view(-1).view(value.dtype).view(value.shape)


def _shifted(value: Tensor, parts: Parts, sign: int) -> Tensor:
    """Return a tensor plus or minus Σ u_r · v_r, rounded once: each step alike on every machine."""
    if "u" not in parts:
        return value
    u, v = parts["u"], parts["v"]
    if len(u) != len(v) or torch.broadcast_shapes(u.shape[1:], v.shape[1:]) != value.shape:
        raise ValueError("factors are of another shape")
    change = torch.zeros(value.shape, dtype=torch.float64)
    for one, other in zip(u, v, strict=True):
        change += one.double() * other.double()
    return (value.double() + sign * change).to(value.dtype)


def _low_rank(before: Tensor, after: Tensor) -> Parts | None:
    """Return a change of low rank and the bits beside it, of the best of a tensor's matrices; none if there is none."""
    if not before.is_floating_point() or before.ndim < 2 or before.numel() < SMALL:
        return None
    change = after.double() - before.double()
    noise = (after.double().abs() * torch.finfo(after.dtype).eps).square().mean() / 12
    found: list[tuple[Tensor, Tensor]] = []
    for side in range(2 if before.ndim > 2 else 1):
        pair = _factors(change.movedim(side, 0).flatten(1), float(noise), before.dtype)
        if pair is None:
            continue
        u, v = pair
        left = [1] * before.ndim
        left[side] = before.shape[side]
        right = [length for place, length in enumerate(before.shape) if place != side]
        right.insert(side, 1)
        found.append((u.T.reshape(-1, *left).contiguous(), v.T.reshape(-1, *right).contiguous()))
    if not found:
        return None
    u, v = min(found, key=lambda some: len(some[0]))
    parts = {"u": u, "v": v}
    forth = _bytes(_shifted(before, parts, 1)) ^ _bytes(after)
    back = _bytes(_shifted(after, parts, -1)) ^ _bytes(before)
    return parts | {"xor": _packed(forth), "xor_back": _packed(back)}


def _factors(matrix: Tensor, noise: float, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    """Return U [m, r], V [n, r] of what of a matrix [m, n] stands out of rounding errors; none where that is much."""
    if matrix.shape[0] > matrix.shape[1]:
        other = _factors(matrix.T, noise, dtype)
        return None if other is None else other[::-1]
    rows, columns = matrix.shape
    if not 1 < rows <= WIDE or not matrix.isfinite().all():
        return None
    values, vectors = torch.linalg.eigh(matrix @ matrix.T)
    rank = int((values > SURE * noise * (rows**0.5 + columns**0.5) ** 2).sum())
    if not 1 <= rank <= rows // 4:
        return None
    left = vectors[:, -rank:]
    right = matrix.T @ left
    scale = right.norm(dim=0).sqrt().clamp(min=torch.finfo(torch.float64).tiny)
    kept = torch.float64 if dtype == torch.float64 else torch.float32
    return (left * scale).to(kept), (right / scale).to(kept)


def _bytes(tensor: Tensor) -> Tensor:
    """Return the bytes of each entry, uint8 [entries, bytes], the lowest first."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).view(tensor.numel(), tensor.element_size())


def _packed(some: Tensor) -> Tensor:
    """Deflate bytes [entries, bytes], the lowest ones of all entries first, to uint8 [length]."""
    return torch.frombuffer(bytearray(zlib.compress(some.T.contiguous().numpy().tobytes(), 6)), dtype=torch.uint8)


def _unpacked(packed: Tensor, shape: torch.Size) -> Tensor:
    """Return what was packed, uint8 of a shape [entries, bytes], and never more than that."""
    reader = zlib.decompressobj()
    content = reader.decompress(packed.numpy().tobytes(), shape.numel() + 1)
    if len(content) != shape.numel() or not reader.eof:
        raise ValueError("packed bytes are not as many as the tensor has")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).view(shape[1], shape[0]).T


def _size(parts: Parts) -> int:
    return sum(part.nbytes for part in parts.values())
