"""Collect the second moment of a layer's keys over images, at all positions or a random sample, at a cost told before.

The keys are the layer's inputs, so that only what leads to the layer is run.
"""

import operator
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from editable.errors import UserError, require_at_least, require_seed
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.image_batches import images_of
from editable.rewriting.memory.memory import Memory
from editable.rewriting.memory.second_moment import BLOCK_ROWS, SecondMoment

__all__ = ["MomentCost", "collect_second_moment", "second_moment_cost"]

COSTLY_OPERATIONS = 5e12  # two minutes at the rate below
COSTLY_BYTES = 2**30
RATE = 4e10  # float64 operations a second of two present-day processor cores
KEYS_PER_ENTRY = 10  # of a key: a sample of at least as many keys times its size is advised


class MomentCost(NamedTuple):
    """What a second moment of keys of size c and its inverse cost.

    Attributes:
        moment_bytes: Of the sum, 8c².
        inverse_bytes: Of :class:`editable.rewriting.InverseMoment`, 8c²; to make it takes about four times as much.
        operations: Additions and multiplications in float64 to sum products of keys; running the network is extra.
        inverse_operations: The same of the eigendecomposition, about 9c³ (Golub & Van Loan, Matrix Computations).
        warning: A sentence where these are large or the keys few, with what to do about it; else none.
    """

    moment_bytes: int
    inverse_bytes: int
    operations: int
    inverse_operations: int
    warning: str | None


def second_moment_cost(key_size: int, num_images: int, positions: int) -> MomentCost:
    """Tell what a second moment costs before it is collected.

    Args:
        key_size: c; of patches c·m·n, which is what makes it large.
        num_images: Number of images.
        positions: Number of keys taken of each image.

    Raises:
        UserError: If a number is below 1.
    """
    require_at_least(1, key_size=key_size, num_images=num_images, positions=positions)
    products = sum(
        2 * min(BLOCK_ROWS, key_size - start) * (key_size - start) for start in range(0, key_size, BLOCK_ROWS)
    )
    cost = MomentCost(
        moment_bytes=8 * key_size**2,
        inverse_bytes=8 * key_size**2,
        operations=num_images * positions * products,
        inverse_operations=9 * key_size**3,
        warning=None,
    )
    return cost._replace(warning=_warning(cost, key_size, num_images, positions))


@torch.no_grad()
def collect_second_moment(
    block: LayerBlock,
    memory: Memory,
    batches: Iterable[Any],
    positions: int | None = None,
    seed: int = 0,
    progress: Callable[[int], object] = lambda images: None,
) -> SecondMoment:
    """Collect the second moment of a layer's keys over a stream of images.

    Of the network only what leads to the layer is run, in evaluation mode. Neither the images nor their keys are kept.

    With ``positions``, each image gives that many keys, drawn without replacement and uniformly over its positions.
    The products are weighted such that the expected second moment is that of all positions, also where images differ
    in size. The draws depend on the seed and on an image's number in the stream, not on the size of batches. Processes
    that share out a data set should have different seeds.

    A warning states the cost where it is large and the number of batches is known.

    Args:
        block: The layer.
        memory: Of the layer; its keys are collected.
        batches: Images [N, …] as the network takes them, or tuples that begin with them, such as a data loader with
            labels gives; they are moved to the network's device.
        positions: Number of keys of each image; all by default.
        seed: For the draws.
        progress: Called with the number of images done since the last call.

    Returns:
        The second moment, on the network's device, on the CPU where that has no float64.

    Raises:
        UserError: If there is no image, ``positions`` is below 1, or keys are NaN or infinite.

    See Also:
        :func:`editable.rewriting.second_moment_cost`, :func:`editable.rewriting.cached_second_moment`.
    """
    require_at_least(1, positions=positions)
    require_seed(seed=seed)
    device = block.weight.device
    moment = SecondMoment(memory.key_size, "cpu" if device.type == "mps" else device)
    generator = torch.Generator().manual_seed(seed)
    num_batches = operator.length_hint(batches)
    for index, batch in enumerate(batches):
        images = images_of(batch, device)
        keys = memory.keys(block.inputs(images))
        if index == 0:
            _warn_of_cost(keys, num_batches, positions)
        number = keys.shape[0] * keys.shape[2]
        moment.update(_sample(keys, positions, generator), stand_for=number)
        progress(len(images))
    if moment.count == 0:
        raise UserError(f"no image was given to collect the second moment of the keys of '{block.layer}' over")
    return moment


def _sample(keys: Tensor, positions: int | None, generator: torch.Generator) -> Tensor:
    """Draw positions of each image: keys [N, c, P] become [N, c, positions]."""
    total = keys.shape[2]
    if positions is None or positions >= total:
        return keys
    drawn = [torch.randperm(total, generator=generator)[:positions] for _ in keys]
    indices = torch.stack(drawn).to(keys.device)
    return keys.gather(2, indices[:, None, :].expand(-1, keys.shape[1], -1))


def _warn_of_cost(keys: Tensor, num_batches: int, positions: int | None) -> None:
    num_images, key_size, total = keys.shape
    if num_batches and num_images and total:
        taken = total if positions is None else min(positions, total)
        cost = second_moment_cost(key_size, num_images * num_batches, taken)
        if cost.warning is not None:
            warnings.warn(cost.warning, UserWarning, stacklevel=4)


def _warning(cost: MomentCost, key_size: int, num_images: int, positions: int) -> str | None:
    num_keys = num_images * positions
    if num_keys < key_size:
        return (
            f"{num_keys} keys ({num_images} images, {positions} of each) are fewer than the {key_size} entries of a "
            "key, so that C is singular and hangs on its regularisation: take more images or positions"
        )
    operations = cost.operations + cost.inverse_operations
    peak = cost.moment_bytes + 5 * cost.inverse_bytes
    if operations < COSTLY_OPERATIONS and peak < COSTLY_BYTES:
        return None
    sentence = (
        f"the second moment of {num_keys:,} keys of size {key_size} takes {cost.operations:.1e} operations in float64 "
        f"and its inverse {cost.inverse_operations:.1e}, about {_duration(operations / RATE)} on two cores, and up to "
        f"{peak / 2**30:.1f} GiB"
    )
    enough = -(-KEYS_PER_ENTRY * key_size // num_images)
    if enough < positions and cost.operations > cost.inverse_operations:
        less = cost.operations * enough // positions + cost.inverse_operations
        sentence += f"; positions={enough}, a random sample of each image, would take {_duration(less / RATE)}"
    return sentence


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
