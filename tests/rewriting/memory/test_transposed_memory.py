"""Convolutions read backwards as memories, against torch's transposed convolution and the forward memories."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from editable.errors import UserError
from editable.rewriting.memory.memory import ConvGeometry, Memory, PatchMemory, PixelMemory, make_memory
from editable.rewriting.memory.transposed_memory import TransposedPatchMemory, TransposedPixelMemory, transpose_memory

GEOMETRIES = [
    ConvGeometry(kernel, stride, padding, dilation)
    for kernel, stride, padding, dilation in itertools.product(
        [(1, 1), (3, 3), (2, 3)], [(1, 1), (2, 1), (3, 2)], [(0, 0), (1, 2), (3, 0)], [(1, 1), (2, 3)]
    )
]
SIZE = (9, 8)


def convolve_transposed(y, weight, geometry, size):
    """conv_transpose2d to a given size; its output_padding must be below stride or dilation, so pixels are appended."""
    _, stride, padding, dilation = geometry
    x = functional.conv_transpose2d(y, weight, None, stride, 0, dilation=dilation)
    rows, columns = (length + 2 * pad for length, pad in zip(size, padding, strict=True))
    x = functional.pad(x, (0, columns - x.shape[-1], 0, rows - x.shape[-2]))
    return x[:, :, padding[0] : rows - padding[0], padding[1] : columns - padding[1]]


def forward_memory(architecture, geometry):
    return make_memory((4, 3, *geometry.kernel_size), geometry, architecture)


@pytest.mark.parametrize("architecture", ["pixel", "patch"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_recall_is_the_transposed_convolution_borders_included(architecture, geometry):
    torch.manual_seed(0)
    weight = torch.randn(4, 3, *geometry.kernel_size, dtype=torch.float64)
    y = torch.randn(2, 4, *geometry.output_size(SIZE), dtype=torch.float64)
    memory = transpose_memory(forward_memory(architecture, geometry))
    recalled = memory.recall(memory.matrix(weight), memory.keys(y, SIZE), SIZE)
    torch.testing.assert_close(recalled, convolve_transposed(y, weight, geometry, SIZE), rtol=0, atol=1e-12)


@pytest.mark.parametrize("output_padding", [0, 1])
def test_recall_is_torchs_module(output_padding):
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(4, 3, 3, 2, 1, output_padding, bias=False).double()
    y = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    expected = layer(y)
    size = (expected.shape[2], expected.shape[3])
    for architecture in ("pixel", "patch"):
        memory = transpose_memory(forward_memory(architecture, ConvGeometry((3, 3), (2, 2), (1, 1))))
        recalled = memory.recall(memory.matrix(layer.weight), memory.keys(y, size), size)
        torch.testing.assert_close(recalled, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("architecture", ["pixel", "patch"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_sizes_and_back(architecture, geometry):
    weight = torch.randn(4, 3, *geometry.kernel_size)
    forward = forward_memory(architecture, geometry)
    memory = transpose_memory(forward)
    assert (memory.value_size, memory.key_size) == (forward.key_size, forward.value_size)
    assert torch.equal(memory.matrix(weight), forward.matrix(weight).T)
    assert torch.equal(memory.weight(memory.matrix(weight)), weight)
    height, width = memory.key_map_size(SIZE)
    keys = memory.keys(torch.randn(2, 4, *geometry.output_size(SIZE)), SIZE)
    assert keys.shape == (2, memory.key_size, height * width)


def test_architectures():
    geometry = ConvGeometry((3, 3), padding=(1, 1))
    unfolding, folding = (transpose_memory(forward_memory(name, geometry)) for name in ("pixel", "patch"))
    assert isinstance(unfolding, TransposedPixelMemory)
    assert (unfolding.key_size, unfolding.value_size) == (4 * 9, 3)
    assert isinstance(folding, TransposedPatchMemory)
    assert (folding.key_size, folding.value_size) == (4, 3 * 9)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_keys_of_architecture_3_are_what_a_pixel_reaches(geometry):
    """Tap o of pixel q's key is the output p with p·stride + o·dilation − padding = q, or zero."""
    torch.manual_seed(0)
    outputs = torch.randn(1, 4, *geometry.output_size(SIZE), dtype=torch.float64)
    keys = transpose_memory(forward_memory("pixel", geometry)).keys(outputs, SIZE)
    keys = keys.view(4, *geometry.kernel_size, *SIZE)
    expected = torch.zeros_like(keys)
    for taps in itertools.product(*map(range, geometry.kernel_size)):
        for place in itertools.product(*map(range, outputs.shape[2:])):
            row, column = (
                p * stride + o * dilation - padding
                for p, stride, o, dilation, padding in zip(
                    place, geometry.stride, taps, geometry.dilation, geometry.padding, strict=True
                )
            )
            if 0 <= row < SIZE[0] and 0 <= column < SIZE[1]:
                expected[:, taps[0], taps[1], row, column] = outputs[0, :, place[0], place[1]]
    assert torch.equal(keys, expected)


@pytest.mark.parametrize("memory_class", [PixelMemory, PatchMemory])
@pytest.mark.parametrize("shape", [(5, 4), (5, 7, 4)], ids=["vectors", "sequences"])
def test_linear_layer(memory_class, shape):
    torch.manual_seed(0)
    weight = torch.randn(4, 3, dtype=torch.float64)
    outputs = torch.randn(*shape, dtype=torch.float64)
    memory = transpose_memory(memory_class((4, 3), None))
    keys = memory.keys(outputs)
    assert keys.shape == (5, 4, 7 if len(shape) == 3 else 1)
    recalled = memory.recall(memory.matrix(weight), keys)
    torch.testing.assert_close(recalled.reshape(*shape[:-1], 3), outputs @ weight)


@pytest.mark.parametrize(
    ("outputs", "size", "message"),
    [
        ((4, 4), (9, 9), "inputs of 9×9 pixels have outputs of 5×5 in this layer, got 4×4"),
        ((5, 5), None, r"needs the size \(H, W\) of its inputs"),
        ((5, 5), (0, 9), "inputs of 0×9 pixels are smaller than the kernel"),
    ],
)
def test_sizes_that_do_not_fit(outputs, size, message):
    memory = transpose_memory(forward_memory("patch", ConvGeometry((3, 3), (2, 2), (1, 1))))
    with pytest.raises(UserError, match=message):
        memory.keys(torch.zeros(1, 4, *outputs), size)


def test_memories_of_another_kind():
    class Odd(Memory):
        _conv_keys = _conv_output = _conv_matrix = _conv_weight = _conv_key_map_size = None

    memory = Odd((4, 3), None)
    memory.key_size, memory.value_size = 3, 4
    with pytest.raises(UserError, match="only pixel and patch memories can be read backwards, got Odd"):
        transpose_memory(memory)
