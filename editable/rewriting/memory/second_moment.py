"""The second moment of a layer's keys, C = E[k kᵀ]: summed over a stream, merged over its parts, kept in a file."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from editable.errors import UserError, require_at_least, require_whole
from editable.models.machine.full_precision import full_precision
from editable.models.tensor_file import read_tensors, write_tensors

__all__ = ["BLOCK_ROWS", "SecondMoment"]

BLOCK_ROWS = 256  # of the sum that are updated by one product, from the diagonal on: half the work for long keys
PART_VALUES = 2**22  # values of keys that are multiplied at once: 32 MiB in float64
SYMMETRY = 1e-5  # largest difference across the diagonal, relative to the largest entry: what float32 may leave


class SecondMoment:
    r"""The uncentred second moment of keys, summed over a stream of them.

    .. math:: C = \frac1n \sum_{i=1}^n k_i k_i^\top

    Products and sums are made in float64, whatever the type of the keys, so that the order and the size of batches
    matter only by rounding. On CUDA, where float64 is slow on many cards, keys of lower precision are multiplied in
    float32, at most 16 MiB of them at once, and only the sums of these products are float64: rounding is then that of
    float32 keys. The memory does not grow with the number of keys. Sums over parts of a data set, such as those of
    several processes, are merged.

    Args:
        key_size: c, the number of entries of a key.
        device: Where the sum is held; keys may come from elsewhere. It must know float64, which Apple's MPS does not.

    Attributes:
        key_size: c.
        count: n, the number of keys so far.

    Raises:
        UserError: If the size is below 1.

    Example:
        >>> moment = SecondMoment(2)
        >>> moment.update(torch.tensor([[1.0, 3.0], [0.0, 2.0]]))
        >>> moment.mean
        tensor([[5., 3.],
                [3., 2.]], dtype=torch.float64)

    See Also:
        :class:`editable.rewriting.InverseMoment`, what it is made for;
        :func:`editable.rewriting.collect_second_moment`, which fills one from a network's activations.
    """

    def __init__(self, key_size: int, device: torch.device | str = "cpu") -> None:
        require_at_least(1, key_size=key_size)
        self.key_size, self.count = key_size, 0
        # Only the blocks on and above the diagonal are kept up; see `_add`.
        self._sum = torch.zeros(key_size, key_size, dtype=torch.float64, device=device)

    @classmethod
    def from_total(cls, total: Tensor, count: int) -> "SecondMoment":
        """Make a second moment from a sum, such as one that was reduced over processes.

        Args:
            total: Σ k kᵀ, [c, c].
            count: Number of keys n.

        Raises:
            UserError: If the total is no finite, symmetric matrix, or the count is negative.
        """
        if total.ndim != 2 or total.shape[0] != total.shape[1] or not len(total):
            raise UserError(f"a second moment is a square matrix [c, c], got shape {list(total.shape)}")
        if not total.isfinite().all():
            raise UserError("a second moment must be finite, and this one holds NaN or infinite values")
        if (total - total.T).abs().max() > SYMMETRY * total.abs().max():
            raise UserError("a second moment is a symmetric matrix, and this one is not")
        require_whole(0, 2**63 - 1, count=count)
        moment = cls(len(total), total.device)
        moment._sum.copy_(total)
        moment.count = int(count)
        return moment

    @property
    def device(self) -> torch.device:
        """Where the sum is held."""
        return self._sum.device

    @property
    def total(self) -> Tensor:
        """The sum Σ k kᵀ, float64 [c, c], a new tensor; exactly symmetric."""
        upper = self._sum.triu()
        return upper + upper.triu(1).T

    @property
    def mean(self) -> Tensor:
        """C = Σ k kᵀ / n, float64 [c, c], a new tensor; exactly symmetric.

        Raises:
            UserError: If there is no key yet.
        """
        if self.count == 0:
            raise UserError("there is no second moment of no keys: update it with some first")
        return self.total / self.count

    @torch.no_grad()
    def update(self, keys: Tensor, stand_for: int | None = None) -> None:
        """Add keys; nothing is changed where an error is raised.

        Args:
            keys: As columns, [c, S] or [N, c, P], of a floating type, on any device.
            stand_for: Number of keys that these S are a uniform random sample of, so that their products are weighted
                by ``stand_for / S``, which keeps the expected sum; each stands for itself by default.

        Raises:
            UserError: If the shape is another, a value is NaN or infinite, or ``stand_for`` is below S.
        """
        keys = keys[None] if keys.ndim == 2 else keys
        self._check(keys)
        number = keys.shape[0] * keys.shape[2]
        stand_for = number if stand_for is None else stand_for
        if stand_for < number or (stand_for and not number):
            raise UserError(f"{number} keys cannot be a sample of {stand_for}")
        if number:
            weight = stand_for / number
            for part in keys.detach().split(max(1, PART_VALUES // keys[0].numel())):
                columns = part.transpose(0, 1).flatten(1)
                self._add(columns.to(self.device, product_type(keys.dtype, self.device)), weight)
        self.count += stand_for

    def merge(self, *others: "SecondMoment") -> None:
        """Add the sums of other parts of the stream.

        Raises:
            UserError: If their keys have another size.
        """
        for other in others:
            if other.key_size != self.key_size:
                raise UserError(
                    f"second moments of keys of one size can be merged, got sizes {self.key_size} and {other.key_size}"
                )
        for other in others:
            self._sum += other._sum.to(self.device)
            self.count += other.count

    def save(self, path: str | Path, fingerprint: Mapping[str, str | int] | None = None) -> None:
        """Write the sum, the count and what they are of to a safetensors file, whole or not at all.

        Args:
            path: An existing file is replaced.
            fingerprint: What the keys are of, in words that :meth:`load` gives back.
        """
        texts = {str(name): str(value) for name, value in (fingerprint or {}).items()}
        write_tensors(path, {"total": self.total, "count": torch.tensor(self.count)}, texts)

    @classmethod
    def load(cls, path: str | Path) -> tuple["SecondMoment", dict[str, str]]:
        """Read what :meth:`save` wrote.

        Returns:
            The second moment, on the CPU, and the fingerprint.

        Raises:
            UserError: If there is no such file, it is broken, or holds something else.
        """
        if not Path(path).is_file():
            raise UserError(f"there is no second moment at '{path}'")
        try:
            tensors, texts = read_tensors(path, sealed=False)
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read '{path}': {error}") from error
        if set(tensors) != {"total", "count"}:
            raise UserError(f"'{path}' holds no second moment but tensors of other names")
        total, count = tensors["total"], tensors["count"]
        if count.shape or count.dtype != torch.int64 or not total.is_floating_point():
            raise UserError(f"'{path}' holds no second moment: a count of {count.dtype}, a total of {total.dtype}")
        try:
            return cls.from_total(total.double(), int(count)), texts
        except (UserError, RuntimeError) as error:
            raise UserError(f"'{path}' holds no second moment: {error}") from error

    def _check(self, keys: Tensor) -> None:
        if keys.ndim != 3 or keys.shape[1] != self.key_size or not keys.is_floating_point():
            raise UserError(
                f"keys must be floating columns [{self.key_size}, S] or [N, {self.key_size}, P], got shape "
                f"{list(keys.shape)} of {keys.dtype}"
            )
        # The sum is one cheap pass; it may overflow where every value is finite.
        if not keys.sum().isfinite() and not keys.isfinite().all():
            bad = (~keys.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
            raise UserError(
                f"keys must be finite, but those of {len(bad)} of {len(keys)} inputs hold NaN or infinite values, the "
                f"first of them number {bad[0]} of the batch: look at the images and at the weights before the layer"
            )

    @full_precision()
    def _add(self, columns: Tensor, weight: float) -> None:
        """Add products of columns [c, S]: rows of C in blocks, each from its diagonal block to the right."""
        for start in range(0, self.key_size, BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            if columns.dtype == self._sum.dtype:
                self._sum[rows, start:].addmm_(columns[rows], columns[start:].T, alpha=weight)
            else:
                self._sum[rows, start:].add_(columns[rows] @ columns[start:].T, alpha=weight)


def product_type(keys: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the precision in which products of keys are made on a device."""
    return torch.float32 if device.type == "cuda" and keys != torch.float64 else torch.float64
