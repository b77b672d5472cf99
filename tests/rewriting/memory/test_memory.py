"""Linear layers and convolutions as memories, against torch's own layers and a plain loop."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from editable.errors import UserError
from editable.rewriting.memory.memory import ConvGeometry, PatchMemory, PixelMemory, make_memory

GEOMETRIES = [
    ConvGeometry(kernel, stride, padding, dilation)
    for kernel, stride, padding, dilation in itertools.product(
        [(1, 1), (3, 3), (2, 3)], [(1, 1), (2, 1), (3, 2)], [(0, 0), (1, 2), (3, 0)], [(1, 1), (2, 3)]
    )
]


def convolve(x, weight, geometry):
    return functional.conv2d(x, weight, None, geometry.stride, geometry.padding, geometry.dilation)


@pytest.mark.parametrize("memory_class", [PixelMemory, PatchMemory])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_recall_is_the_convolution_borders_included(memory_class, geometry):
    torch.manual_seed(0)
    weight = torch.randn(4, 3, *geometry.kernel_size, dtype=torch.float64)
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    memory = memory_class(tuple(weight.shape), geometry)
    recalled = memory.recall(memory.matrix(weight), memory.keys(x), (9, 8))
    torch.testing.assert_close(recalled, convolve(x, weight, geometry), rtol=0, atol=1e-12)


@pytest.mark.parametrize("memory_class", [PixelMemory, PatchMemory])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_sizes_and_back(memory_class, geometry):
    weight = torch.randn(4, 3, *geometry.kernel_size)
    memory = memory_class(tuple(weight.shape), geometry)
    assert memory.matrix(weight).shape == (memory.value_size, memory.key_size)
    assert torch.equal(memory.weight(memory.matrix(weight)), weight)
    keys = memory.keys(torch.randn(2, 3, 9, 8))
    height, width = memory.key_map_size((9, 8))
    assert keys.shape == (2, memory.key_size, height * width)
    assert geometry.output_size((9, 8)) == tuple(convolve(torch.randn(1, 3, 9, 8), weight, geometry).shape[2:])


def test_a_pixels_value_is_what_it_adds_to_the_output():
    """Architecture 1 by its definition: an image that is zero but for one pixel."""
    torch.manual_seed(0)
    geometry = ConvGeometry((3, 3), padding=(1, 1))
    weight = torch.randn(2, 3, 3, 3, dtype=torch.float64)
    key = torch.randn(3, dtype=torch.float64)
    image = torch.zeros(1, 3, 5, 5, dtype=torch.float64)
    image[0, :, 2, 2] = key
    value = (PixelMemory((2, 3, 3, 3), geometry).matrix(weight) @ key).view(2, 3, 3)
    output = convolve(image, weight, geometry)[0]
    # Output p = q + 1 − o reads pixel q = 2 by tap o.
    for row, column in itertools.product(range(3), range(3)):
        torch.testing.assert_close(output[:, 3 - row, 3 - column], value[:, row, column])


def test_patch_keys_are_the_pixels_under_the_kernel():
    x = torch.arange(2 * 4 * 4, dtype=torch.float64).view(1, 2, 4, 4)
    keys = PatchMemory((1, 2, 2, 2), ConvGeometry((2, 2), stride=(2, 2))).keys(x)
    expected = [x[0, :, row : row + 2, column : column + 2].flatten() for row in (0, 2) for column in (0, 2)]
    assert torch.equal(keys[0].T, torch.stack(expected))


@pytest.mark.parametrize("architecture", ["pixel", "patch"])
@pytest.mark.parametrize("shape", [(5, 3), (5, 7, 3)], ids=["vectors", "sequences"])
def test_linear_layer(architecture, shape):
    torch.manual_seed(0)
    layer = nn.Linear(3, 4, bias=False).double()
    memory = make_memory(tuple(layer.weight.shape), None, architecture)
    x = torch.randn(*shape, dtype=torch.float64)
    keys = memory.keys(x)
    assert keys.shape == (5, 3, 7 if len(shape) == 3 else 1)
    recalled = memory.recall(memory.matrix(layer.weight), keys)
    torch.testing.assert_close(recalled.reshape(*shape[:-1], 4), layer(x))
    assert torch.equal(memory.weight(memory.matrix(layer.weight)), layer.weight)


def test_orthonormal_keys_are_recalled_exactly():
    """Σ v_i k_iᵀ recalls each v_i (Bau et al. 2020, eq. 9)."""
    torch.manual_seed(0)
    keys = torch.linalg.qr(torch.randn(6, 4, dtype=torch.float64)).Q
    values = torch.randn(3, 4, dtype=torch.float64)
    matrix = sum(torch.outer(values[:, i], keys[:, i]) for i in range(4))
    recalled = make_memory((3, 6), None).recall(matrix, keys.T.reshape(4, 6, 1))
    torch.testing.assert_close(recalled[:, 0].T, values, rtol=0, atol=1e-14)


def test_unknown_architecture():
    with pytest.raises(UserError, match="architecture must be one of pixel, patch, got 'voxel'"):
        make_memory((3, 6), None, "voxel")
