"""A convolution read backwards as an associative memory: from what the layer puts out to what it reads."""

from abc import ABC, abstractmethod

from torch import Tensor
from torch.nn import functional

from editable.errors import UserError
from editable.rewriting.memory.memory import ConvGeometry, Memory, PatchMemory, PixelMemory

__all__ = ["TransposedMemory", "TransposedPatchMemory", "TransposedPixelMemory", "transpose_memory"]


class TransposedMemory(ABC):
    """A matrix U [value_size, key_size] whose keys are a layer's outputs and whose values are its inputs.

    It is shaped like the transpose of a forward memory W: what W has for a value is a key here, and the other way
    about. ``recall(matrix(weight), keys(outputs, size), size)`` is the transposed layer on the outputs, the adjoint of
    the layer without its bias: for a convolution ``conv_transpose2d`` that leads to inputs of the given size. It is
    not the layer's inverse.

    Args:
        forward: The layer's memory in the forward direction.

    Attributes:
        forward: The memory that was given.
        key_size: Length of a key, ``forward.value_size``.
        value_size: Length of a value, ``forward.key_size``.

    See Also:
        :func:`transpose_memory`, which chooses the subclass.
    """

    def __init__(self, forward: Memory) -> None:
        self.forward, self.geometry = forward, forward.geometry
        self.key_size, self.value_size = forward.value_size, forward.key_size

    def matrix(self, weight: Tensor) -> Tensor:
        """Return the transpose of a weight, [f, c] or [f, c, m, n], as a matrix [value_size, key_size]."""
        return self.forward.matrix(weight).T

    def weight(self, matrix: Tensor) -> Tensor:
        """Return a matrix [value_size, key_size] as a weight, transposed back; the inverse of :meth:`matrix`."""
        return self.forward.weight(matrix.T)

    def keys(self, outputs: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Return the keys in a layer's outputs.

        Args:
            outputs: Without the bias, [N, f, H', W']; of a linear layer [N, …, f].
            size: Height and width of the layer's inputs, which a stride above 1 leaves open; none for a linear layer.

        Returns:
            [N, key_size, P], P positions in rows of the key map; of a linear layer P is the number of vectors.

        Raises:
            UserError: If no inputs of this size have outputs of that one.
        """
        if self.geometry is None:
            return outputs.reshape(len(outputs), -1, outputs.shape[-1]).transpose(1, 2)
        size = self._checked(size, self.geometry)
        wanted = self.geometry.output_size(size)
        if outputs.shape[-2:] != wanted:
            raise UserError(
                f"inputs of {size[0]}×{size[1]} pixels have outputs of {wanted[0]}×{wanted[1]} in this layer, got "
                f"{outputs.shape[-2]}×{outputs.shape[-1]}"
            )
        return self._conv_keys(outputs, self.geometry, size)

    def recall(self, matrix: Tensor, keys: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Return what a memory has for keys, put together to what the layer reads.

        Args:
            matrix: U [value_size, key_size].
            keys: All keys of N outputs, [N, key_size, P].
            size: Height and width of the layer's inputs; none for a linear layer.

        Returns:
            [N, c, H, W]; of a linear layer [N, P, c].

        Raises:
            UserError: If the layer takes no inputs of this size.
        """
        values = matrix @ keys
        if self.geometry is None:
            return values.transpose(1, 2)
        return self._conv_input(values, self.geometry, self._checked(size, self.geometry))

    def key_map_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the map of keys for layer inputs of some height and width, of a convolution."""
        return self.forward.key_map_size(size)

    @staticmethod
    def _checked(size: tuple[int, int] | None, geometry: ConvGeometry) -> tuple[int, int]:
        if size is None:
            raise UserError("a convolution read backwards needs the size (H, W) of its inputs")
        if min(geometry.output_size(size)) < 1:
            raise UserError(f"inputs of {size[0]}×{size[1]} pixels are smaller than the kernel of this layer")
        return size

    @abstractmethod
    def _conv_keys(self, outputs: Tensor, geometry: ConvGeometry, size: tuple[int, int]) -> Tensor: ...

    @abstractmethod
    def _conv_input(self, values: Tensor, geometry: ConvGeometry, size: tuple[int, int]) -> Tensor: ...


class TransposedPixelMemory(TransposedMemory):
    """Architecture 3: a key is all that one input pixel reaches in the output [f·m·n], its value that pixel [c].

    Outputs that would lie outside of the map, or between two steps of the stride, are zeros in the key.
    """

    def _conv_keys(self, outputs: Tensor, geometry: ConvGeometry, size: tuple[int, int]) -> Tensor:
        # The adjoint of what a pixel memory does: put the stride's steps apart, crop (or widen), unfold, turn the taps.
        taps, stride, span = geometry.kernel_size, geometry.stride, geometry.span
        rows, columns = (2 * padding - reach for padding, reach in zip(geometry.padding, span, strict=True))
        apart = outputs.new_zeros(*outputs.shape[:2], size[0] + rows, size[1] + columns)
        apart[:, :, :: stride[0], :: stride[1]] = outputs
        rows, columns = (reach - padding for padding, reach in zip(geometry.padding, span, strict=True))
        whole = functional.pad(apart, (columns, columns, rows, rows))
        patches = functional.unfold(whole, taps, geometry.dilation)
        return patches.unflatten(1, (-1, *taps)).flip((2, 3)).flatten(1, 3)

    def _conv_input(self, values: Tensor, geometry: ConvGeometry, size: tuple[int, int]) -> Tensor:
        return values.unflatten(2, size)


class TransposedPatchMemory(TransposedMemory):
    """Architecture 4: a key is one output pixel [f], its value what it adds to the patch under the kernel [c·m·n].

    The patches of neighbouring outputs overlap; folding adds them up.
    """

    def _conv_keys(self, outputs: Tensor, geometry: ConvGeometry, size: tuple[int, int]) -> Tensor:
        return outputs.flatten(2)

    def _conv_input(self, values: Tensor, geometry: ConvGeometry, size: tuple[int, int]) -> Tensor:
        taps, stride, padding, dilation = geometry
        return functional.fold(values, size, taps, dilation, stride=stride, padding=padding)


def transpose_memory(memory: Memory) -> TransposedMemory:
    """Return a memory read backwards: of a pixel memory architecture 3, of a patch memory architecture 4.

    The four architectures are those of Elango 2021, ch. 2; those of a linear layer are all the same but for the
    direction.

    Args:
        memory: A :class:`PixelMemory` or :class:`PatchMemory`.

    Raises:
        UserError: If it is another memory.
    """
    for kind, transposed in ((PixelMemory, TransposedPixelMemory), (PatchMemory, TransposedPatchMemory)):
        if isinstance(memory, kind):
            return transposed(memory)
    raise UserError(f"only pixel and patch memories can be read backwards, got {type(memory).__name__}")
