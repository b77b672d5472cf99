"""3×3 convolution by Winograd's minimal filtering F(4×4, 3×3): 2.25 products per output in place of 9."""

from typing import Any

import torch
from torch import Tensor, nn

from editable.models.machine.product import batched_product

__all__ = ["WinogradConv2d"]

# Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.3: Y = Aᵀ[(GgGᵀ) ⊙ (BᵀdB)]A
# for a kernel g [3, 3] and an input tile d [6, 6] gives an output tile Y [4, 4].
_INPUT = [
    [4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
    [0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
    [0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
    [0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
    [0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
    [0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
]
_KERNEL = [
    [1 / 4, 0.0, 0.0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0.0, 0.0, 1.0],
]
_OUTPUT = [
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
    [0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
    [0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
]
_TILE, _PATCH = 4, 6


class WinogradConv2d(nn.Module):
    """A 3×3 convolution with stride 1 and one zero of padding, for inputs of one fixed size.

    In float32 its rounding error is about ten times that of the direct sum: 2e-6 of the output's standard deviation.
    The parameters are the transformed kernel and the bias: `transform` makes the former.

    Args:
        in_channels: c.
        out_channels: f.
        size: H and W of the input, and so of the output.
    """

    input_rows: Tensor
    input_columns: Tensor
    output: Tensor

    def __init__(self, in_channels: int, out_channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.tiles = tuple(-(-length // _TILE) for length in size)
        self.weight = nn.Parameter(torch.empty(_PATCH * _PATCH, in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        rows, columns = (_patches_of(length, tiles) for length, tiles in zip(size, self.tiles, strict=True))
        self.register_buffer("input_rows", rows)
        self.register_buffer("input_columns", columns)
        self.register_buffer("output", torch.tensor(_OUTPUT))
        self.spaces: dict[tuple[Any, ...], Tensor] = {}  # memory of earlier calls; layers may share it

    @staticmethod
    def fits(convolution: nn.Conv2d, size: tuple[int, int]) -> bool:
        """Return whether a convolution of inputs of this size can be done, and is worth doing, in this way.

        With few channels the transforms cost more than is saved; with tiles that hang over the border by more than
        half, so do their products.
        """
        setting = (convolution.stride, convolution.padding, convolution.dilation, convolution.groups)
        covered = [length / (-(-length // _TILE) * _TILE) for length in size]
        return (
            convolution.kernel_size == (3, 3)
            and setting == ((1, 1), (1, 1), (1, 1), 1)
            and convolution.padding_mode == "zeros"
            and min(convolution.in_channels, convolution.out_channels) >= 64
            and covered[0] * covered[1] > 0.5
        )

    @staticmethod
    def transform(weight: Tensor) -> Tensor:
        """Return the transformed kernel GgGᵀ [36, c, f] of a kernel [f, c, 3, 3]."""
        kernel = torch.tensor(_KERNEL, dtype=weight.dtype, device=weight.device)
        out_channels, in_channels = weight.shape[:2]
        rows = kernel @ weight.permute(2, 3, 1, 0).reshape(3, -1)  # [6, 3·c·f]
        return (kernel @ rows.view(_PATCH, 3, -1)).view(_PATCH * _PATCH, in_channels, out_channels)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve [N, c, H, W] to [N, f, H, W], both best in ``torch.channels_last``."""
        samples, channels, filters = *input.shape[:2], self.weight.shape[-1]
        (height, width), (tall, wide) = self.size, self.tiles
        pixels = input.permute(0, 2, 3, 1).flatten(2)  # [N, H, W·c]
        rows = (self.input_rows @ pixels).view(samples, _PATCH, tall, width, channels)
        rows = rows.permute(1, 3, 2, 0, 4).reshape(_PATCH, width, tall * samples * channels)
        space = self._space("patches", input, _PATCH, _PATCH * wide, tall * samples * channels)
        patches = torch.matmul(self.input_columns, rows, out=space)
        patches = patches.view(_PATCH * _PATCH, wide * tall * samples, channels)
        space = self._space("products", input, _PATCH * _PATCH, wide * tall * samples, filters)
        products = batched_product(patches, self.weight, out=space)
        columns = self.output @ products.view(_PATCH, _PATCH, wide * tall * samples * filters)
        columns = columns.view(_PATCH, _TILE, wide, tall, samples, filters).permute(4, 3, 0, 2, 1, 5)
        outputs = self.output @ columns.reshape(samples * tall, _PATCH, wide * _TILE * filters)
        outputs = outputs.view(samples, tall * _TILE, wide * _TILE, filters)[:, :height, :width]
        return (outputs + self.bias).permute(0, 3, 1, 2)

    def _space(self, name: str, like: Tensor, *shape: int) -> Tensor | None:
        """Return memory to write a large intermediate value into, None for fresh memory, whose pages cost time."""
        if torch.compiler.is_compiling() or torch.is_grad_enabled():
            return None
        if any(torch._C._functorch.is_functorch_wrapped_tensor(tensor) for tensor in (like, self.weight)):
            return None
        key = (name, shape, like.dtype, like.device)
        if key not in self.spaces:
            self.spaces[key] = like.new_empty(shape)
        return self.spaces[key]


def _patches_of(length: int, tiles: int) -> Tensor:
    """Return the matrix [6·tiles, length] that cuts a line, with one zero at each end, into patches times Bᵀ.

    Row a·tiles + t is entry a of the transform of the patch that begins at 4·t − 1.
    """
    transform = torch.tensor(_INPUT)
    matrix = torch.zeros(_PATCH, tiles, length)
    for tile in range(tiles):
        for offset in range(_PATCH):
            position = _TILE * tile + offset - 1
            if 0 <= position < length:
                matrix[:, tile, position] = transform[:, offset]
    return matrix.flatten(0, 1)
