"""A convolution of small images with many channels as one product of matrices, for processors with AMX."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

__all__ = ["UnfoldedConv2d"]

# oneDNN's kernel for AMX puts one row of an output at a time into a tile, which has room for 16 pixels: rows of 4 leave
# three quarters of it empty. Below MOST outputs an image, from LEAST_WEIGHTS on, a copy of all patches costs less.
MOST_OUTPUTS = 25
LEAST_WEIGHTS = 9 * 256 * 512


class UnfoldedConv2d(nn.Module):
    """A convolution with zeros around the image, for inputs of one fixed size: patches [N·H·W, k·l·c] times the kernel.

    The parameters are the kernel as a matrix, which `transform` makes, and the bias.

    Args:
        convolution: That is computed, with k × l kernels, of c channels.
        size: H and W of the input.
    """

    def __init__(self, convolution: nn.Conv2d, size: tuple[int, int]) -> None:
        super().__init__()
        channels, filters = convolution.in_channels, convolution.out_channels
        self.kernel, self.output = convolution.kernel_size, _output_of(convolution, size)
        self.rows, self.columns = (
            tuple(_reach_of(convolution, axis, size[axis], self.output[axis])) for axis in (0, 1)
        )
        self.weight = nn.Parameter(torch.empty(self.kernel[0] * self.kernel[1] * channels, filters))
        self.bias = nn.Parameter(torch.zeros(filters))

    @staticmethod
    def fits(convolution: nn.Conv2d, size: tuple[int, int]) -> bool:
        """Return whether a convolution of inputs of this size can be done, and is worth doing, in this way."""
        if convolution.groups != 1 or convolution.padding_mode != "zeros" or isinstance(convolution.padding, str):
            return False
        height, width = _output_of(convolution, size)
        return 0 < height * width <= MOST_OUTPUTS and convolution.weight.numel() >= LEAST_WEIGHTS

    @staticmethod
    def transform(weight: Tensor) -> Tensor:
        """Return the matrix [k·l·c, f] of a kernel [f, c, k, l]."""
        return weight.permute(2, 3, 1, 0).flatten(0, 2)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve [N, c, H, W] to [N, f, H', W'], both best in ``torch.channels_last``."""
        pixels = input.permute(0, 2, 3, 1)
        patches = pixels.new_zeros(len(input), *self.output, *self.kernel, input.shape[1])
        for row, (to_row, from_row) in enumerate(self.rows):
            for column, (to_column, from_column) in enumerate(self.columns):
                patches[:, to_row, to_column, row, column] = pixels[:, from_row, from_column]
        outputs = torch.addmm(self.bias, patches.view(-1, len(self.weight)), self.weight)
        return outputs.view(len(input), *self.output, -1).permute(0, 3, 1, 2)


def _output_of(convolution: nn.Conv2d, size: tuple[int, int]) -> tuple[int, int]:
    """Return H' and W'."""
    height, width = (_length_of(convolution, axis, length) for axis, length in enumerate(size))
    return height, width


def _length_of(convolution: nn.Conv2d, axis: int, length: int) -> int:
    reach = convolution.dilation[axis] * (convolution.kernel_size[axis] - 1) + 1
    return (length + 2 * int(convolution.padding[axis]) - reach) // convolution.stride[axis] + 1


def _reach_of(convolution: nn.Conv2d, axis: int, length: int, outputs: int) -> Iterator[tuple[slice, slice]]:
    """Yield, for each place of the kernel on an axis, the outputs for which it lies on the image, and where it does."""
    stride, padding = convolution.stride[axis], int(convolution.padding[axis])
    for place in range(convolution.kernel_size[axis]):
        offset = place * convolution.dilation[axis] - padding
        on_image = [output for output in range(outputs) if 0 <= output * stride + offset < length]
        first, number = (on_image[0], len(on_image)) if on_image else (0, 0)
        begin = first * stride + offset if on_image else 0
        yield slice(first, first + number), slice(begin, begin + number * stride, stride)
