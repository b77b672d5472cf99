"""Values of a layer traced back: to the image that gives them, to the features before the layer, and to keys."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics.functional.image import total_variation as sum_of_variation

from editable.errors import UserError, require_finite, require_not_negative
from editable.rewriting.inverse.reconstruction import Bounds, Reconstruction, ReconstructionSettings, Watch, reconstruct
from editable.rewriting.memory.block import LayerBlock

__all__ = ["invert_features", "invert_images", "num_open_dimensions", "reconstruct_keys"]


def invert_images(
    block: LayerBlock,
    values: Tensor,
    image_shape: tuple[int, int, int],
    settings: ReconstructionSettings,
    weight: Tensor | None = None,
    normalise: Callable[[Tensor], Tensor] = lambda images: images,
    total_variation: float = 0.0,
    pixel_range: tuple[float, float] = (0.0, 1.0),
    watch: Watch | None = None,
    progress: Callable[[int], object] = lambda steps: None,
) -> Reconstruction:
    r"""Find images whose values at a layer are those wanted (image inversion; Mahendran & Vedaldi 2015).

    .. math:: \min_x \lVert F(x) - T\rVert^2 / \lVert T\rVert^2 + \alpha\,\mathrm{TV}(x) / HW

    F are all layers up to and with the block, TV the sum of absolute differences of neighbouring pixels. A start is
    noise, uniform over the range of pixels, which no image ever leaves. The network stays as it is.

    Args:
        block: The layer, with BatchNorm and activation.
        values: T, the block's outputs, [n, f, H', W'].
        image_shape: (C, H, W).
        settings: Of the descent.
        weight: In place of the layer's own.
        normalise: From images to what the network takes, differentiable.
        total_variation: α ≥ 0.
        pixel_range: Least and greatest value of a pixel.
        watch: What is recorded of the images besides the loss.
        progress: Called with the number of updates since the last call.

    Raises:
        UserError: If images of this shape have no such values, α is negative, or the range is empty.

    Source: Elango 2021, 3.9 and 3.10; here relative to the target.
    """
    require_not_negative(total_variation=total_variation)
    require_finite(pixel_range=pixel_range)
    low, high = pixel_range
    if not low < high:
        raise UserError(f"pixel_range must be the least and the greatest value of a pixel, got {list(pixel_range)}")
    starts = low + (high - low) * _draw(torch.rand, settings, (len(values), *image_shape), block.weight)
    factor = total_variation / (image_shape[1] * image_shape[2])
    return reconstruct(
        lambda images: block.values(block.inputs(normalise(images)), weight),
        values,
        starts,
        settings,
        (low, high),
        (lambda images: factor * sum_of_variation(images, reduction="none")) if factor else None,
        watch,
        progress,
    )


def invert_features(
    block: LayerBlock,
    values: Tensor,
    input_shape: tuple[int, ...],
    settings: ReconstructionSettings,
    weight: Tensor | None = None,
    scale: float = 1.0,
    bounds: Bounds = (None, None),
    watch: Watch | None = None,
    progress: Callable[[int], object] = lambda steps: None,
) -> Reconstruction:
    """Find what a layer has to read, A^{l−1}, for its block to give the values wanted, A^l.

    A start is normal noise, put between the bounds. Where the block loses something, by its activation or for having
    fewer outputs than inputs, many features give the same values, and what is found depends on the start.

    Args:
        block: The layer, with BatchNorm and activation.
        values: A^l, the block's outputs, [n, f, H', W']; of a linear layer [n, …, f].
        input_shape: Of one input of the layer, (c, H, W); of a linear layer (…, c).
        settings: Of the descent.
        weight: In place of the layer's own.
        scale: Standard deviation of the starts.
        bounds: Of the features, such as (0, none) behind a ReLU.
        watch: What is recorded of the features besides the loss.
        progress: Called with the number of updates since the last call.

    Raises:
        UserError: If inputs of this shape have no such values.

    Source: Elango 2021, 3.14 and 3.15; here relative to the target.
    """
    starts = scale * _draw(torch.randn, settings, (len(values), *input_shape), block.weight)
    starts = starts if bounds == (None, None) else starts.clamp(*bounds)
    return reconstruct(
        lambda inputs: block.values(inputs, weight), values, starts, settings, bounds, None, watch, progress
    )


def reconstruct_keys(
    matrix: Tensor,
    values: Tensor,
    settings: ReconstructionSettings,
    watch: Watch | None = None,
    progress: Callable[[int], object] = lambda steps: None,
) -> Reconstruction:
    """Find the keys that values are recalled for by an associative memory, v = W k.

    A start is normal noise, as long as makes its recalled values about as long as those wanted. Where W has dependent
    columns (:func:`num_open_dimensions`), what a start has along these stays.

    Args:
        matrix: W [value_size, key_size], see :class:`editable.rewriting.Memory`.
        values: In columns, [value_size, S].
        settings: Of the descent; its learning rate is relative to the starts' standard deviation.
        watch: What is recorded of the keys, as rows [R·S, key_size] up to a factor each, besides the loss.
        progress: Called with the number of updates since the last call.

    Returns:
        Keys as rows, [S, key_size].

    Raises:
        UserError: If shapes do not fit, the memory is zero, or something is not finite.
    """
    if matrix.ndim != 2 or values.ndim != 2 or len(matrix) != len(values):
        raise UserError(
            f"a memory [value_size, key_size] recalls values [value_size, S], got {list(matrix.shape)} and "
            f"{list(values.shape)}"
        )
    if not matrix.isfinite().all() or not matrix.any():
        raise UserError("a memory that is zero, or not finite, recalls no value that could be traced back")
    lengths = values.norm(dim=0)
    scales = torch.where(lengths > 0, lengths, torch.ones_like(lengths)) / matrix.norm()
    found = reconstruct(
        lambda keys: keys @ matrix.T,
        (values / scales).T,
        _draw(torch.randn, settings, (values.shape[1], matrix.shape[1]), matrix),
        settings,
        watch=watch,
        progress=progress,
    )
    return found._replace(found=found.found * scales[:, None])


def num_open_dimensions(matrix: Tensor) -> int:
    """Return in how many dimensions a key can be changed without changing what a memory W [f, c] recalls for it."""
    return matrix.shape[1] - int(torch.linalg.matrix_rank(matrix.double()))


def _draw(
    kind: Callable[..., Tensor], settings: ReconstructionSettings, shape: tuple[int, ...], like: Tensor
) -> Tensor:
    """Return noise [R, *shape], drawn on the CPU, so that all devices begin alike."""
    generator = torch.Generator().manual_seed(settings.seed)
    return kind(settings.restarts, *shape, generator=generator, dtype=like.dtype).to(like.device)
