"""A convolution as one product equals torch's own, for every setting that it takes."""

import pytest
import torch
from torch import Tensor, nn

from editable.models import ScoringSettings, SplitNetwork
from editable.models.machine.unfolded import UnfoldedConv2d
from editable.models.split.scoring_form import ScoringForm
from tests.models.machine.vectorised import check_under_vmap

SETTINGS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 1},
    {"kernel_size": 1, "stride": 2, "padding": 1},
    {"kernel_size": (3, 2), "padding": (2, 0), "stride": (1, 2)},
    {"kernel_size": 2, "dilation": (2, 3), "padding": 3},
    {"kernel_size": 5, "padding": 4, "stride": 3},
    {"kernel_size": (1, 7), "padding": (0, 6)},
]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unfolded(convolution: nn.Conv2d, size: tuple[int, int]) -> UnfoldedConv2d:
    """The layer that convolves as the given one does."""
    layer = UnfoldedConv2d(convolution, size).to(convolution.weight)
    layer.weight.data = UnfoldedConv2d.transform(convolution.weight.detach())
    if convolution.bias is not None:
        layer.bias.data = convolution.bias.detach()
    return layer


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("size", [(4, 4), (3, 5), (2, 7), (1, 6)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_equals_torchs(setting: dict, size: tuple[int, int], bias: bool):
    convolution = nn.Conv2d(3, 5, bias=bias, **setting).double()
    for layout in (torch.contiguous_format, torch.channels_last):
        x = normal(2, 3, *size).contiguous(memory_format=layout)
        try:
            expected = convolution(x)
        except RuntimeError:  # the kernel is larger than the image with its zeros
            assert not UnfoldedConv2d.fits(convolution, size)
            continue
        torch.testing.assert_close(unfolded(convolution, size)(x), expected, rtol=0, atol=1e-12)
        assert torch.equal(x, normal(2, 3, *size))


def test_under_vmap_over_weights():
    kernels, biases, x = normal(3, 5, 4, 3, 3), normal(3, 5, seed=1), normal(3, 2, 4, 4, 4, seed=2)
    convolution = nn.Conv2d(4, 5, 3, padding=1).double()
    layer = UnfoldedConv2d(convolution, (4, 4)).double()
    check_under_vmap(layer, UnfoldedConv2d.transform, kernels, biases, x, 1e-12)


@pytest.mark.parametrize(
    ("channels", "size", "setting", "fits"),
    [
        ((512, 512), (4, 4), {"padding": 1}, True),
        ((512, 512), (5, 5), {"padding": 1}, True),
        ((512, 512), (6, 6), {"padding": 1}, False),
        ((256, 512), (8, 8), {"padding": 1, "stride": 2}, True),
        ((256, 512), (8, 8), {"padding": 1}, False),
        ((256, 256), (4, 4), {"padding": 1}, False),
        ((512, 512), (4, 4), {"padding": "same"}, False),
        ((512, 512), (4, 4), {"padding": 1, "groups": 2}, False),
        ((512, 512), (4, 4), {"padding": 1, "padding_mode": "circular"}, False),
        ((512, 512), (2, 2), {}, False),
    ],
    ids=str,
)
def test_where_it_is_worth_it(channels: tuple[int, int], size: tuple[int, int], setting: dict, fits: bool):
    with torch.device("meta"):
        convolution = nn.Conv2d(*channels, 3, **setting)
    assert UnfoldedConv2d.fits(convolution, size) == fits


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 256, 3, padding=1)
        self.second, self.norm = nn.Conv2d(256, 512, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(512)
        self.head = nn.Linear(512, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.second(self.first(x))).relu().mean((2, 3)))


@pytest.mark.parametrize(
    ("kind", "settings", "used"),
    [
        ("AMX", ScoringSettings(precision="bfloat16"), True),
        ("AVX-512 BF16", ScoringSettings(precision="bfloat16"), False),
        ("AMX", ScoringSettings(), False),
        ("AMX", ScoringSettings(precision="bfloat16", channels_last=False), False),
    ],
)
@torch.no_grad()
def test_scoring_uses_it_with_amx(kind: str, settings: ScoringSettings, used: bool, monkeypatch: pytest.MonkeyPatch):
    """Also for edited weights, with BatchNorm in them."""
    monkeypatch.setattr("editable.models.split.scoring_form.processor", lambda: kind)
    torch.manual_seed(0)
    network = Small().eval()
    split = SplitNetwork(network, ["second"])
    features = split.prefix(torch.randn(3, 3, 6, 6))
    form = ScoringForm(split, features, settings)
    assert used == any(isinstance(module, UnfoldedConv2d) for module in form._module.modules())
    edited = {"second.weight": network.second.weight + 0.03 * torch.randn(512, 256, 3, 3)}
    expected = [split.suffix(features, params) for params in ({}, edited)]
    assert float((expected[0] - expected[1]).abs().max()) > 0.1
    for params, wanted in zip(({}, edited), expected, strict=True):
        ours = form(features, form.prepare(params))
        torch.testing.assert_close(ours, wanted, rtol=0, atol=0.03)  # bfloat16's rounding; logits are of order 1
