"""Winograd's algorithm equals the direct sum, up to a rounding error that is bounded here."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editable.models.machine.winograd import WinogradConv2d
from tests.models.machine.vectorised import check_under_vmap

SIZES = [(4, 4), (7, 7), (8, 8), (14, 14), (3, 3), (1, 1), (4, 7), (14, 6), (5, 13)]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def winograd(weight: Tensor, bias: Tensor | None, size: tuple[int, int]) -> WinogradConv2d:
    """The layer that convolves with this kernel [f, c, 3, 3]."""
    layer = WinogradConv2d(weight.shape[1], weight.shape[0], size).to(weight.dtype)
    layer.weight.data = WinogradConv2d.transform(weight)
    if bias is not None:
        layer.bias.data = bias
    return layer


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("samples", [0, 1, 3])
def test_equals_the_direct_sum(size: tuple[int, int], samples: int) -> None:
    weight, bias, x = normal(5, 3, 3, 3, seed=1), normal(5, seed=2), normal(samples, 3, *size)
    for shift in (bias, None):
        layer, expected = winograd(weight, shift, size), F.conv2d(x, weight, shift, padding=1)
        for layout in (torch.contiguous_format, torch.channels_last):
            ours = layer(x.contiguous(memory_format=layout))
            torch.testing.assert_close(ours, expected, rtol=0, atol=2e-13 * 20)  # outputs reach 20
    assert torch.equal(x, normal(samples, 3, *size))


@torch.no_grad()
@pytest.mark.parametrize("channels", [64, 512])
@pytest.mark.parametrize("size", [(4, 4), (7, 7), (8, 8), (14, 14)], ids=str)
def test_rounding_error_in_single_precision(size: tuple[int, int], channels: int) -> None:
    """Root mean square, relative to the standard deviation of the output: 2e-6, as the class states."""
    weight = normal(16, channels, 3, 3, seed=1, dtype=torch.float32)
    x, bias = normal(4, channels, *size, dtype=torch.float32), normal(16, seed=2, dtype=torch.float32)
    truth = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)

    def error(output: Tensor) -> float:
        return float((output.double() - truth).square().mean().sqrt() / truth.std())

    assert error(winograd(weight, bias, size)(x)) < 4e-6
    # That of the library's own convolution hangs on the order in which it adds up, which is another for each kind of
    # processor: ours was 6 to 12 times as large on an AMD EPYC, up to 15.2 times on an Intel Xeon.
    assert error(winograd(weight, bias, size)(x)) < 20 * error(F.conv2d(x, weight, bias, padding=1))


@pytest.mark.parametrize("size", [(7, 7), (4, 6)], ids=str)
def test_under_vmap_over_weights(size: tuple[int, int]) -> None:
    weights, biases, x = normal(3, 5, 4, 3, 3), normal(3, 5, seed=1), normal(3, 2, 4, *size, seed=2)
    layer = winograd(weights[0], biases[0], size)
    check_under_vmap(layer, WinogradConv2d.transform, weights, biases, x, 1e-11)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_transform_follows_its_definition(layout: torch.memory_format) -> None:
    """GgGᵀ for each pair of channels, with G of Lavin & Gray, section 4.3."""
    g = torch.tensor(
        [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64
    ) / torch.tensor([24, 24, 24, 24, 24, 24], dtype=torch.float64).unsqueeze(1)
    g[0, 0] = 1 / 4
    weight = normal(2, 3, 3, 3).contiguous(memory_format=layout)
    made = WinogradConv2d.transform(weight)
    assert made.shape == (36, 3, 2)
    for f in range(2):
        for c in range(3):
            torch.testing.assert_close(made[:, c, f].view(6, 6), g @ weight[f, c] @ g.T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(4, 4), (7, 7), (8, 8), (14, 14), (4, 8), (3, 4)], ids=str)
def test_fits(size: tuple[int, int]) -> None:
    assert WinogradConv2d.fits(nn.Conv2d(64, 64, 3, padding=1), size)
    assert WinogradConv2d.fits(nn.Conv2d(64, 128, 3, padding=1, bias=False), size)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 1, "padding": 0},
        {"kernel_size": 1, "padding": 1},
        {"kernel_size": 5, "padding": 2},
        {"kernel_size": (3, 1), "padding": (1, 0)},
        {"kernel_size": (1, 3), "padding": 1},
        {"stride": 2},
        {"stride": (1, 2)},
        {"padding": 0},
        {"padding": 2},
        {"padding": (1, 0)},
        {"dilation": 2},
        {"dilation": 2, "padding": 2},
        {"groups": 2},
        {"groups": 64},
        {"padding_mode": "reflect"},
        {"padding_mode": "circular"},
        {"padding": "valid"},
        {"in_channels": 32},
        {"out_channels": 32},
    ],
    ids=str,
)
def test_refuses_what_it_cannot_do_or_what_would_not_pay(settings: dict[str, Any]) -> None:
    convolution = nn.Conv2d(**{"in_channels": 64, "out_channels": 64, "kernel_size": 3, "padding": 1, **settings})
    assert not WinogradConv2d.fits(convolution, (8, 8))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 4), (5, 5), (1, 8)], ids=str)
def test_refuses_sizes_whose_tiles_hang_over(size: tuple[int, int]) -> None:
    """Of the products, 16 for each tile of 4 × 4, no more than half are of pixels that there are."""
    assert not WinogradConv2d.fits(nn.Conv2d(64, 64, 3, padding=1), size)


def test_another_size_than_its_own_is_refused() -> None:
    for size in ((7, 7), (4, 16), (16, 4), (8, 7), (8, 16)):
        with pytest.raises(RuntimeError, match=r"size|shape"):
            winograd(normal(2, 2, 3, 3), None, (8, 8))(normal(1, 2, *size))
