"""The exact kernel through unfolded patches, against the least-squares problem written out pixel by pixel."""

import itertools

import pytest
import torch
from torch.nn import functional

from editable.errors import UserError
from editable.rewriting.memory.fourier_memory import SpectralMoments, cut_kernel, fourier_least_squares, fourier_rewrite
from editable.rewriting.memory.memory import ConvGeometry, PatchMemory
from editable.rewriting.solvers.patch_least_squares import constrained_patch_least_squares, patch_least_squares
from tests.rewriting.problems import random

GEOMETRIES = [
    ConvGeometry((3, 3), padding=(1, 1)),
    ConvGeometry((2, 3), stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
]
SIZE = (6, 7)


def memory_of(geometry):
    return PatchMemory((2, 3, *geometry.kernel_size), geometry)


def data(geometry):
    return random(5, 3, *SIZE, seed=0), random(5, 2, *geometry.output_size(SIZE), seed=1)


def design(inputs, geometry):
    """A column for each weight of one filter: what it adds to all outputs, by the definition of the layer."""
    height, width = geometry.output_size(tuple(inputs.shape[2:]))
    columns = []
    for channel, *taps in itertools.product(range(inputs.shape[1]), *map(range, geometry.kernel_size)):
        column = torch.zeros(len(inputs), height, width, dtype=torch.float64)
        for place in itertools.product(range(height), range(width)):
            row, col = (
                p * stride + o * dilation - padding
                for p, stride, o, dilation, padding in zip(
                    place, geometry.stride, taps, geometry.dilation, geometry.padding, strict=True
                )
            )
            if 0 <= row < inputs.shape[2] and 0 <= col < inputs.shape[3]:
                column[:, place[0], place[1]] = inputs[:, channel, row, col]
        columns.append(column.flatten())
    return torch.stack(columns, dim=1)


def targets(values):
    return values.transpose(0, 1).flatten(1).T


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_least_squares_borders_included(geometry):
    inputs, values = data(geometry)
    fit = patch_least_squares(memory_of(geometry), [(inputs[:2], values[:2]), (inputs[2:], values[2:])])
    expected = torch.linalg.lstsq(design(inputs, geometry), targets(values)).solution.T.reshape(fit.weight.shape)
    torch.testing.assert_close(fit.weight, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("number", [1, 3])
def test_constrained_least_squares(geometry, number):
    """Over the kernels that meet the constraint, which differ from one of them in the null space of the keys."""
    inputs, values = data(geometry)
    fit = patch_least_squares(memory_of(geometry), [(inputs, values)])
    keys, wanted = random(fit.memory.key_size, number, seed=2), random(2, number, seed=3)
    weight = constrained_patch_least_squares(fit, keys, wanted)
    torch.testing.assert_close(weight.flatten(1) @ keys, wanted, rtol=0, atol=1e-11)
    matrix, right = design(inputs, geometry), targets(values)
    basis = torch.linalg.qr(keys, mode="complete").Q[:, number:]
    feasible = torch.linalg.lstsq(keys.T, wanted.T).solution
    free = torch.linalg.lstsq(matrix @ basis, right - matrix @ feasible).solution
    expected = (feasible + basis @ free).T.reshape(weight.shape)
    torch.testing.assert_close(weight, expected, rtol=0, atol=1e-10)


def test_a_layer_is_found_again():
    geometry = GEOMETRIES[0]
    inputs, kernel = random(5, 3, *SIZE, seed=0), random(2, 3, 3, 3, seed=1)
    values = functional.conv2d(inputs, kernel, padding=1)
    fit = patch_least_squares(memory_of(geometry), [(inputs, values)])
    torch.testing.assert_close(fit.weight, kernel, rtol=0, atol=1e-11)


def test_ridge():
    geometry = GEOMETRIES[0]
    inputs, values = data(geometry)
    matrix = design(inputs[:1, :, :3, :3], geometry)  # 9 outputs for 27 weights
    ridge = 0.1 * float(matrix.square().sum()) / matrix.shape[1]
    fit = patch_least_squares(memory_of(geometry), [(inputs[:1, :, :3, :3], values[:1, :, :3, :3])], epsilon=0.1)
    system = matrix.T @ matrix + ridge * torch.eye(27, dtype=torch.float64)
    expected = torch.linalg.solve(system, matrix.T @ targets(values[:1, :, :3, :3])).T
    torch.testing.assert_close(fit.weight.flatten(1), expected, rtol=0, atol=1e-10)


def test_with_periodic_borders_and_a_kernel_as_large_as_the_map_it_is_that_of_the_fourier_domain():
    size = (3, 4)
    inputs, values = random(6, 3, *size, seed=0), random(6, 2, *size, seed=1)
    geometry = ConvGeometry(size)
    padded = functional.pad(inputs, (0, 3, 0, 2), mode="circular")
    fit = patch_least_squares(PatchMemory((2, 3, *size), geometry), [(padded, values)])
    moments = SpectralMoments(3, 2, size)
    moments.update(inputs, values)
    full = fourier_least_squares(moments)
    torch.testing.assert_close(fit.weight, cut_kernel(full, geometry), rtol=0, atol=1e-10)
    keys, wanted = random(2, 3, *size, seed=2), random(2, 2, seed=3)
    torch.testing.assert_close(
        constrained_patch_least_squares(fit, keys.flatten(1).T, wanted),
        fourier_rewrite(full, keys, wanted, moments),
        rtol=0,
        atol=1e-10,
    )


def test_unsuitable_input():
    geometry = GEOMETRIES[0]
    inputs, values = data(geometry)
    memory = memory_of(geometry)
    with pytest.raises(UserError, match=r"values for these inputs must be finite \[5, 2, 6, 7\], got \[5, 2, 6, 6\]"):
        patch_least_squares(memory, [(inputs, values[..., :6])])
    with pytest.raises(UserError, match="no inputs were given"):
        patch_least_squares(memory, [])
    with pytest.raises(UserError, match="singular"):
        patch_least_squares(memory, [(inputs[:, :, :2, :2], values[:, :, :2, :2])])
    with pytest.raises(UserError, match="key 0 of 1 is zero"):
        constrained_patch_least_squares(
            patch_least_squares(memory, [(inputs, values)]), torch.zeros(27, 1), torch.ones(2, 1)
        )
