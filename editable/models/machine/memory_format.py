"""Which networks may be laid out with their channels last: torch overruns its memory in some narrow convolutions."""

import warnings

import torch
from torch import nn
from torch.torch_version import TorchVersion

__all__ = ["lay_out_channels_last", "overruns_channels_last"]

# Channels that oneDNN's kernels take at a time: 16 with AVX-512, 8 with AVX2.
CHANNEL_BLOCK = 16

# The first version of torch whose oneDNN is mended, such as "2.16"; None while none is known.
MENDED_IN: str | None = None


def overruns_channels_last(layer: nn.Module) -> bool:
    """Return whether the backward pass of a layer, on a CPU, may write past its memory where channels lie last.

    For the gradient of a 1×1 kernel, oneDNN copies what the stride leaves of the input, [positions, channels], into a
    workspace of just that size. Where channels lie last, it begins each chunk of the copy as if a position took a whole
    block of channels; with fewer channels, the last chunks lie past the end. Gradients become wrong, or the heap is
    destroyed: https://github.com/uxlfoundation/oneDNN/issues/6035. With padding or groups there is no such workspace,
    a single channel lies the same either way, and of a transposed convolution the output has the part of the input.

    Whether it happens also depends on the processor, on the size of the images, and on precision: float32 only. But a
    network meets others of these after it was laid out, so the layer's shape and torch's version alone decide.

    Args:
        layer: Any module. Convolutions that are written as functions are not seen.
    """
    if MENDED_IN is not None and TorchVersion(torch.__version__) >= MENDED_IN:
        return False
    if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return False
    is_strided_point = layer.kernel_size == (1, 1) and layer.stride != (1, 1)
    # Padding other than with zeros is done before the convolution, which then has none.
    is_padded = layer.padding_mode == "zeros" and layer.padding not in ((0, 0), "valid")
    channels = layer.out_channels if layer.transposed else layer.in_channels
    return is_strided_point and not is_padded and layer.groups == 1 and 1 < channels < CHANNEL_BLOCK


def lay_out_channels_last(network: nn.Module) -> torch.memory_format:
    """Lay out a network with its channels last, or contiguous where `overruns_channels_last` holds for a layer.

    Activations take the layout of any kernel before them, and an input with its channels last is enough to overrun,
    whatever the layout of the layer's own kernel. So one such layer keeps the whole network contiguous, with a warning
    that names it.

    Args:
        network: Any module; its kernels are laid out in place.

    Returns:
        The layout that the network has now. Images [N, C, H, W] are to have the same, or to be contiguous.
    """
    unsafe = [name for name, layer in network.named_modules() if overruns_channels_last(layer)]
    memory_format = torch.contiguous_format if unsafe else torch.channels_last
    network.to(memory_format=memory_format)
    if unsafe:
        warnings.warn(
            f"the network stays contiguous in place of channels_last: torch {torch.__version__} can write past its "
            f"memory in the backward pass of {unsafe[0] or 'its layer'}, {network.get_submodule(unsafe[0])}, "
            f"which is 1×1, strided, and has fewer than {CHANNEL_BLOCK} channels",
            UserWarning,
            stacklevel=2,
        )
    return memory_format
