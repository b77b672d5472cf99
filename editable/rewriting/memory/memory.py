"""A layer's weight as an associative memory: a matrix that recalls a value for each key, v = W k."""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple, get_args

from torch import Tensor
from torch.nn import functional

from editable.errors import UserError

__all__ = ["Architecture", "ConvGeometry", "Memory", "PatchMemory", "PixelMemory", "make_memory"]

Architecture = Literal["pixel", "patch"]
"""Architectures 1 and 2 of a convolution as a memory: its keys are pixels of the input, or patches of it."""


class ConvGeometry(NamedTuple):
    """How a convolution's kernel moves, each along height and width."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def span(self) -> tuple[int, int]:
        """How many pixels lie between the first and the last tap of the kernel."""
        rows, columns = (dilation * (size - 1) for dilation, size in zip(self.dilation, self.kernel_size, strict=True))
        return rows, columns

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the output for an input of some height and width."""
        height, width = (
            (length + 2 * padding - span - 1) // stride + 1
            for length, padding, span, stride in zip(size, self.padding, self.span, self.stride, strict=True)
        )
        return height, width


class Memory(ABC):
    """The weight of a linear or convolutional layer as a matrix W [value_size, key_size] on keys that are columns.

    A linear layer [f, c] is the memory itself: each vector it reads is a key. A convolution [f, c, m, n] can be seen in
    several ways (Elango 2021, ch. 2); the subclasses are two of them. ``recall(matrix(weight), keys(x), size)`` is the
    layer's output on x, without its bias.

    Args:
        weight_shape: Of the layer's weight, [f, c] or [f, c, m, n].
        geometry: How the kernel moves; none for a linear layer.

    Attributes:
        key_size: Length of a key.
        value_size: Length of a value.
    """

    key_size: int
    value_size: int

    def __init__(self, weight_shape: tuple[int, ...], geometry: ConvGeometry | None) -> None:
        self.weight_shape, self.geometry = tuple(weight_shape), geometry

    def keys(self, inputs: Tensor) -> Tensor:
        """Return the keys in a layer's inputs.

        Args:
            inputs: [N, c, H, W]; of a linear layer [N, …, c].

        Returns:
            [N, key_size, P], P positions in rows of the key map; of a linear layer P is the number of vectors in each
            input.
        """
        if self.geometry is None:
            return inputs.reshape(len(inputs), -1, inputs.shape[-1]).transpose(1, 2)
        return self._conv_keys(inputs, self.geometry)

    def recall(self, matrix: Tensor, keys: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Return what a memory has for keys, put together to the layer's output.

        Args:
            matrix: W [value_size, key_size].
            keys: All keys of N inputs, [N, key_size, P].
            size: Height and width of the inputs; none for a linear layer.

        Returns:
            The layer's output without its bias, [N, f, H', W']; of a linear layer [N, P, f].
        """
        values = matrix @ keys
        if self.geometry is None or size is None:
            return values.transpose(1, 2)
        return self._conv_output(values, self.geometry, size)

    def matrix(self, weight: Tensor) -> Tensor:
        """Return a weight of this layer as a matrix [value_size, key_size]."""
        return weight if self.geometry is None else self._conv_matrix(weight)

    def weight(self, matrix: Tensor) -> Tensor:
        """Return a matrix [value_size, key_size] as a weight of this layer; the inverse of :meth:`matrix`."""
        return matrix if self.geometry is None else self._conv_weight(matrix)

    def key_map_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the map of keys for an input of some height and width, of a convolution."""
        assert self.geometry is not None, "the keys of a linear layer are no map"
        return self._conv_key_map_size(self.geometry, size)

    @abstractmethod
    def _conv_keys(self, inputs: Tensor, geometry: ConvGeometry) -> Tensor: ...

    @abstractmethod
    def _conv_output(self, values: Tensor, geometry: ConvGeometry, size: tuple[int, int]) -> Tensor: ...

    @abstractmethod
    def _conv_matrix(self, weight: Tensor) -> Tensor: ...

    @abstractmethod
    def _conv_weight(self, matrix: Tensor) -> Tensor: ...

    @abstractmethod
    def _conv_key_map_size(self, geometry: ConvGeometry, size: tuple[int, int]) -> tuple[int, int]: ...


class PixelMemory(Memory):
    """Architecture 1: a key is one pixel of the input [c], its value what it adds to the output around it [f·m·n].

    The values of neighbouring pixels overlap; folding adds them up. A rewrite by keys [c] changes all taps of the
    kernel along the same direction of the input's channels.
    """

    def __init__(self, weight_shape: tuple[int, ...], geometry: ConvGeometry | None) -> None:
        super().__init__(weight_shape, geometry)
        filters, self.key_size, *kernel = self.weight_shape
        self.value_size = filters * (kernel[0] * kernel[1] if kernel else 1)

    def _conv_keys(self, inputs: Tensor, geometry: ConvGeometry) -> Tensor:
        return inputs.flatten(2)

    def _conv_output(self, values: Tensor, geometry: ConvGeometry, size: tuple[int, int]) -> Tensor:
        # Pixel q reaches output p by the tap o with p + o·d − padding = q. A convolution is a correlation, so the taps
        # are reversed to be folded; the whole overlap is folded, cropped (or widened), and every stride-th row kept.
        taps = geometry.kernel_size
        reversed_taps = values.unflatten(1, (-1, *taps)).flip((2, 3)).flatten(1, 3)
        span = geometry.span
        whole = functional.fold(reversed_taps, (size[0] + span[0], size[1] + span[1]), taps, geometry.dilation)
        rows, columns = (padding - reach for padding, reach in zip(geometry.padding, span, strict=True))
        fitting = functional.pad(whole, (columns, columns, rows, rows))
        return fitting[:, :, :: geometry.stride[0], :: geometry.stride[1]]

    def _conv_matrix(self, weight: Tensor) -> Tensor:
        return weight.permute(0, 2, 3, 1).reshape(self.value_size, self.key_size)

    def _conv_weight(self, matrix: Tensor) -> Tensor:
        filters, channels, *kernel = self.weight_shape
        return matrix.reshape(filters, *kernel, channels).permute(0, 3, 1, 2)

    def _conv_key_map_size(self, geometry: ConvGeometry, size: tuple[int, int]) -> tuple[int, int]:
        return size


class PatchMemory(Memory):
    """Architecture 2: a key is the patch of the input under the kernel [c·m·n], its value one pixel of the output [f].

    Exact for one output pixel with all its taps; the keys are m·n times as long as those of :class:`PixelMemory`.
    """

    def __init__(self, weight_shape: tuple[int, ...], geometry: ConvGeometry | None) -> None:
        super().__init__(weight_shape, geometry)
        self.value_size, channels, *kernel = self.weight_shape
        self.key_size = channels * (kernel[0] * kernel[1] if kernel else 1)

    def _conv_keys(self, inputs: Tensor, geometry: ConvGeometry) -> Tensor:
        return functional.unfold(inputs, geometry.kernel_size, geometry.dilation, geometry.padding, geometry.stride)

    def _conv_output(self, values: Tensor, geometry: ConvGeometry, size: tuple[int, int]) -> Tensor:
        return values.unflatten(2, geometry.output_size(size))

    def _conv_matrix(self, weight: Tensor) -> Tensor:
        return weight.reshape(self.value_size, self.key_size)

    def _conv_weight(self, matrix: Tensor) -> Tensor:
        return matrix.reshape(self.weight_shape)

    def _conv_key_map_size(self, geometry: ConvGeometry, size: tuple[int, int]) -> tuple[int, int]:
        return geometry.output_size(size)


def make_memory(
    weight_shape: tuple[int, ...], geometry: ConvGeometry | None, architecture: Architecture = "pixel"
) -> Memory:
    """Return the memory of a layer.

    Args:
        weight_shape: Of the layer's weight, [f, c] or [f, c, m, n].
        geometry: How the kernel moves; none for a linear layer.
        architecture: ``pixel`` or ``patch``; for linear layers and 1×1 convolutions of stride 1 without padding both
            are the same.

    Raises:
        UserError: If the architecture is another one.
    """
    if architecture not in get_args(Architecture):
        raise UserError(f"architecture must be one of {', '.join(get_args(Architecture))}, got {architecture!r}")
    return (PixelMemory if architecture == "pixel" else PatchMemory)(weight_shape, geometry)
