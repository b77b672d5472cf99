"""Convolutions with periodic borders, frequency by frequency, against the least-squares problem written out."""

import itertools

import pytest
import torch
from torch.nn import functional

from editable.errors import UserError
from editable.rewriting.memory.fourier_memory import (
    SpectralMoments,
    correlate_periodically,
    cut_kernel,
    fourier_least_squares,
    fourier_rewrite,
    place_kernel,
    truncate_kernel,
)
from editable.rewriting.memory.memory import ConvGeometry
from tests.rewriting.problems import random

SIZES = [(4, 5), (3, 4), (1, 6), (5, 1)]  # even and odd, for the frequencies held are those of half the spectrum
SAMPLES, CHANNELS, FILTERS = 7, 3, 2
SAME = ConvGeometry((3, 3), padding=(1, 1))


def design(inputs):
    """The circulant matrix X with V = X w for each filter: a row for each sample and output, a column for each tap."""
    _, channels, height, width = inputs.shape
    columns = [
        torch.roll(inputs[:, channel], (-row, -column), (1, 2)).flatten()
        for channel in range(channels)
        for row, column in itertools.product(range(height), range(width))
    ]
    return torch.stack(columns, dim=1)


def targets(values):
    """V as a column for each filter."""
    return values.transpose(0, 1).flatten(1).T


def by_lstsq(inputs, values, ridge=0.0):
    matrix, right = design(inputs), targets(values)
    matrix = torch.cat([matrix, ridge**0.5 * torch.eye(matrix.shape[1], dtype=torch.float64)])
    right = functional.pad(right, (0, 0, 0, len(matrix) - len(right)))
    return torch.linalg.lstsq(matrix, right).solution.T.reshape(values.shape[1], *inputs.shape[1:])


def by_lagrange_multipliers(inputs, values, keys, wanted, ridge=0.0):
    """The kernel of least squared error subject to ⟨W, u⟩ = v, as one system of linear equations."""
    matrix, constraints = design(inputs), keys.flatten(1)
    size, number = matrix.shape[1], len(keys)
    system = torch.zeros(size + number, size + number, dtype=torch.float64)
    system[:size, :size] = matrix.T @ matrix + ridge * torch.eye(size, dtype=torch.float64)
    system[:size, size:], system[size:, :size] = constraints.T, constraints
    right = torch.cat([matrix.T @ targets(values), wanted.T])
    return torch.linalg.solve(system, right)[:size].T.reshape(values.shape[1], *inputs.shape[1:])


def data(size, samples=SAMPLES):
    return random(samples, CHANNELS, *size, seed=0), random(samples, FILTERS, *size, seed=1)


def moments_of(inputs, values):
    moments = SpectralMoments(inputs.shape[1], values.shape[1], tuple(inputs.shape[2:]))
    moments.update(inputs[:3], values[:3])
    moments.update(inputs[3:], values[3:])
    return moments


@pytest.mark.parametrize("size", SIZES)
def test_correlation_with_periodic_borders(size):
    inputs, weight = random(2, CHANNELS, *size, seed=0), random(FILTERS, CHANNELS, *size, seed=1)
    expected = (design(inputs) @ weight.flatten(1).T).T.reshape(FILTERS, 2, *size).transpose(0, 1)
    torch.testing.assert_close(correlate_periodically(inputs, weight), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_least_squares(size):
    inputs, values = data(size)
    moments = moments_of(inputs, values)
    weight, expected = fourier_least_squares(moments), by_lstsq(inputs, values)
    torch.testing.assert_close(weight, expected, rtol=0, atol=1e-10)
    error = float((values - correlate_periodically(inputs, expected)).square().sum())
    assert moments.squared_error(weight) == pytest.approx(error, rel=1e-10)
    assert moments.count == SAMPLES


@pytest.mark.parametrize("samples", [2, SAMPLES])
def test_ridge(samples):
    inputs, values = data((4, 5), samples)
    # The mean of the diagonal over frequencies and channels is, by Parseval, Σ A² / c.
    ridge = 0.1 * float(inputs.square().sum()) / CHANNELS
    weight = fourier_least_squares(moments_of(inputs, values), epsilon=0.1)
    torch.testing.assert_close(weight, by_lstsq(inputs, values, ridge), rtol=0, atol=1e-10)


def test_a_kernel_is_found_again():
    inputs, kernel = random(SAMPLES, CHANNELS, 6, 7, seed=0), random(FILTERS, CHANNELS, 3, 3, seed=1)
    values = functional.conv2d(functional.pad(inputs, (1, 1, 1, 1), mode="circular"), kernel)
    weight = fourier_least_squares(moments_of(inputs, values))
    torch.testing.assert_close(weight, place_kernel(kernel, SAME, (6, 7)), rtol=0, atol=1e-10)
    # A true convolution turns the kernel round, and its transform is the complex conjugate.
    turned = weight.flip((2, 3)).roll((1, 1), (2, 3))
    torch.testing.assert_close(torch.fft.fft2(turned), torch.fft.fft2(weight).conj(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("number", [1, 3])
def test_constrained_least_squares(size, number):
    """Keys of any shape over the map, not only symmetric ones, and several constraints at once."""
    inputs, values = data(size)
    keys, wanted = random(number, CHANNELS, *size, seed=2), random(FILTERS, number, seed=3)
    moments = moments_of(inputs, values)
    weight = fourier_rewrite(fourier_least_squares(moments), keys, wanted, moments)
    expected = by_lagrange_multipliers(inputs, values, keys, wanted)
    torch.testing.assert_close(weight, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(weight.flatten(1) @ keys.flatten(1).T, wanted, rtol=0, atol=1e-12)


def test_constrained_ridge():
    inputs, values = data((4, 5), samples=2)
    keys, wanted = random(2, CHANNELS, 4, 5, seed=2), random(FILTERS, 2, seed=3)
    moments = moments_of(inputs, values)
    ridge = 0.1 * float(inputs.square().sum()) / CHANNELS
    weight = fourier_rewrite(fourier_least_squares(moments, 0.1), keys, wanted, moments, 0.1)
    expected = by_lagrange_multipliers(inputs, values, keys, wanted, ridge)
    torch.testing.assert_close(weight, expected, rtol=0, atol=1e-10)


def test_a_key_at_all_taps_of_a_centred_kernel():
    """The thesis' own constraint: v*_f = Σ k*_c W_fc,mn over the taps −1, 0, 1; its û is real."""
    inputs, values = data((4, 5))
    key, wanted = random(CHANNELS, seed=2), random(FILTERS, 1, seed=3)
    keys = place_kernel(key[None, :, None, None].expand(-1, -1, 3, 3), SAME, (4, 5))
    assert torch.fft.fft2(keys).imag.abs().max() < 1e-12
    moments = moments_of(inputs, values)
    weight = fourier_rewrite(fourier_least_squares(moments), keys, wanted, moments)
    summed = sum(weight[:, :, row, column] @ key for row, column in itertools.product((-1, 0, 1), (-1, 0, 1)))
    torch.testing.assert_close(summed, wanted[:, 0], rtol=0, atol=1e-12)
    expected = by_lagrange_multipliers(inputs, values, keys, wanted)
    torch.testing.assert_close(weight, expected, rtol=0, atol=1e-10)


def test_any_kernel_may_be_rewritten():
    """From another W₀ than that of least squares, the change of the outputs is the least possible."""
    inputs, values = data((4, 5))
    original = random(FILTERS, CHANNELS, 4, 5, seed=4)
    keys, wanted = random(1, CHANNELS, 4, 5, seed=2), random(FILTERS, 1, seed=3)
    weight = fourier_rewrite(original, keys, wanted, moments_of(inputs, values))
    expected = by_lagrange_multipliers(inputs, correlate_periodically(inputs, original), keys, wanted)
    torch.testing.assert_close(weight, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "geometry",
    [
        ConvGeometry((3, 3), padding=(1, 1)),
        ConvGeometry((2, 3), padding=(1, 0)),
        ConvGeometry((3, 1), padding=(2, 1), dilation=(2, 3)),
        ConvGeometry((3, 2)),
    ],
    ids=str,
)
def test_a_placed_kernel_is_the_layer_with_periodic_padding(geometry):
    inputs, kernel = random(2, CHANNELS, 6, 7, seed=0), random(FILTERS, CHANNELS, *geometry.kernel_size, seed=1)
    (top, left), (height, width) = geometry.padding, geometry.span
    # The layer's output is as large as the map where padding and kernel are; what is missing is padded at the end.
    around = (left, max(width - left, 0), top, max(height - top, 0))
    padded = functional.pad(inputs, around, mode="circular")
    expected = functional.conv2d(padded, kernel, dilation=geometry.dilation)[:, :, :6, :7]
    full = place_kernel(kernel, geometry, (6, 7))
    torch.testing.assert_close(correlate_periodically(inputs, full), expected, rtol=0, atol=1e-12)
    assert torch.equal(cut_kernel(full, geometry), kernel)
    assert int((full != 0).sum()) == kernel.numel()


def test_what_truncation_costs():
    inputs, values = data((4, 5))
    moments = moments_of(inputs, values)
    keys, wanted = random(2, CHANNELS, 4, 5, seed=2), random(FILTERS, 2, seed=3)
    weight = fourier_rewrite(fourier_least_squares(moments), keys, wanted, moments)
    cut = truncate_kernel(weight, SAME, moments, keys, wanted)
    outside = torch.ones(4, 5, dtype=torch.bool)
    for row, column in itertools.product((-1, 0, 1), (-1, 0, 1)):
        outside[row, column] = False
        assert torch.equal(cut.weight[:, :, 1 + row, 1 + column], weight[:, :, row, column])
    small = weight.masked_fill(outside, 0)
    errors = [float((values - correlate_periodically(inputs, kernel)).square().sum()) for kernel in (weight, small)]
    total = float(values.square().sum())
    assert (cut.error_before, cut.error) == pytest.approx((errors[0] / total, errors[1] / total), rel=1e-10)
    assert cut.excess == pytest.approx((errors[1] - errors[0]) / total, rel=1e-10)
    missing = small.flatten(1) @ keys.flatten(1).T - wanted
    assert cut.residual_before < 1e-12
    assert cut.residual == pytest.approx(float(missing.norm() / wanted.norm()), rel=1e-10)


def test_truncation_keeps_a_constraint_on_the_taps_that_stay():
    inputs, values = data((4, 5))
    moments, wanted = moments_of(inputs, values), random(FILTERS, 1, seed=3)
    keys = place_kernel(random(1, CHANNELS, 3, 3, seed=2), SAME, (4, 5))
    weight = fourier_rewrite(fourier_least_squares(moments), keys, wanted, moments)
    cut = truncate_kernel(weight, SAME, moments, keys, wanted)
    assert cut.residual < 1e-12
    assert cut.excess > 0.01


def test_nothing_is_lost_of_a_kernel_that_is_small_already():
    inputs, values = data((4, 5))
    kernel = random(FILTERS, CHANNELS, 3, 3, seed=2)
    cut = truncate_kernel(place_kernel(kernel, SAME, (4, 5)), SAME, moments_of(inputs, values))
    assert torch.equal(cut.weight, kernel)
    assert cut.excess == 0
    assert cut.residual is None


def test_too_few_samples():
    inputs, values = data((4, 5), samples=2)
    with pytest.raises(
        UserError, match=r"over 2 samples of 3 channels, is singular at frequency \(0, 0\) and 11 other"
    ):
        fourier_least_squares(moments_of(inputs, values))


def test_a_frequency_that_no_map_holds():
    inputs, values = data((4, 5))
    inputs = inputs - inputs.mean((2, 3), keepdim=True)
    with pytest.raises(UserError, match=r"singular at frequency \(0, 0\) and 0 others"):
        fourier_least_squares(moments_of(inputs, values))
    assert fourier_least_squares(moments_of(inputs, values), epsilon=1e-6).isfinite().all()


@pytest.mark.parametrize(
    ("inputs", "values", "message"),
    [
        ((2, 3, 4, 4), (2, 2, 4, 5), r"inputs must be \[N, 3, 4, 5\], got \[2, 3, 4, 4\]"),
        ((2, 3, 4, 5), (1, 2, 4, 5), r"values must be \[N, 2, 4, 5\], got \[1, 2, 4, 5\]"),
    ],
)
def test_maps_that_do_not_fit(inputs, values, message):
    moments = SpectralMoments(CHANNELS, FILTERS, (4, 5))
    with pytest.raises(UserError, match=message):
        moments.update(torch.zeros(inputs), torch.zeros(values))
    assert moments.count == 0


@pytest.mark.parametrize(("channels", "filters", "name"), [(0, 2, "channels"), (3, 0, "filters")])
def test_widths_of_nothing(channels: int, filters: int, name: str):
    with pytest.raises(UserError, match=f"{name} must be"):
        SpectralMoments(channels, filters, (4, 5))


def test_maps_that_are_not_finite():
    inputs, values = data((4, 5))
    with pytest.raises(UserError, match="values must be finite"):
        SpectralMoments(CHANNELS, FILTERS, (4, 5)).update(inputs, values / 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.zeros(2, 3, 3, 3)}, r"kernel must be \[2, 3, 4, 5\] here, got \[2, 3, 3, 3\]"),
        ({"keys": torch.zeros(1, 3, 3, 3)}, r"keys \[S, 3, 4, 5\] and values \[2, S\], got \[1, 3, 3, 3\]"),
        ({"values": torch.zeros(2, 2)}, r"got \[1, 3, 4, 5\] and \[2, 2\]"),
        ({"keys": torch.zeros(1, 3, 4, 5)}, "the 1 keys are zero or linearly dependent"),
        ({"values": torch.full((2, 1), torch.nan)}, "keys and values must be finite"),
        ({"epsilon": -1.0}, "epsilon must be at least 0, got -1.0"),
    ],
)
def test_constraints_that_do_not_fit(change, message):
    arguments = {
        "weight": random(FILTERS, CHANNELS, 4, 5, seed=4),
        "keys": random(1, CHANNELS, 4, 5, seed=2),
        "values": random(FILTERS, 1, seed=3),
        "moments": moments_of(*data((4, 5))),
    } | change
    with pytest.raises(UserError, match=message):
        fourier_rewrite(**arguments)


def test_keys_without_values():
    moments = moments_of(*data((4, 5)))
    with pytest.raises(UserError, match="give both, or neither"):
        truncate_kernel(torch.zeros(2, 3, 4, 5), SAME, moments, keys=torch.ones(1, 3, 4, 5))


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (ConvGeometry((3, 3), stride=(2, 1)), "a layer of stride 2×1 is no convolution of whole maps"),
        (ConvGeometry((3, 3), dilation=(2, 1)), "reaches over 5 pixels does not fit into a map of 4"),
        (ConvGeometry((3, 2)), r"a kernel \[..., 3, 2\] is needed, got \[2, 3, 3, 3\]"),
    ],
)
def test_kernels_that_do_not_fit(geometry, message):
    with pytest.raises(UserError, match=message):
        place_kernel(torch.zeros(2, 3, 3, 3), geometry, (4, 5))
