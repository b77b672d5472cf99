"""The form for scoring equals the suffix under all its settings, and folds nothing that must not be folded."""

import itertools
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models
from torchvision.models.vision_transformer import VisionTransformer

from editable.errors import UserError
from editable.models import ScoringForm, ScoringSettings, SplitNetwork, add_extra_layer, cifar_resnet
from editable.models.machine.winograd import WinogradConv2d
from tests.models.reference import normal, settled
from tests.warned import no_warning

# Inside torch's own adaptive_avg_pool2d, for images laid out with their channels last, under vmap.
pytestmark = pytest.mark.filterwarnings("ignore:.*batching rule for aten..as_strided_")

ALL_SETTINGS = [
    ScoringSettings(fold_batch_norm=fold, channels_last=last, winograd=winograd)
    for fold, last, winograd in itertools.product((False, True), repeat=3)
]
FASTEST = ScoringSettings()


def name_of(settings: ScoringSettings) -> str:
    return f"fold={settings.fold_batch_norm:d},last={settings.channels_last:d},winograd={settings.winograd:d}"


all_settings = pytest.mark.parametrize("settings", ALL_SETTINGS, ids=name_of)


def tiny(width: int = 16) -> nn.Module:
    """At 16 × 16 pixels ``layer3`` has 64 channels of 4 × 4 pixels, for which Winograd's algorithm fits."""
    torch.manual_seed(0)
    return settled(cifar_resnet(5, width=width, layers=(1, 1, 1, 1)))


def tiny_vit() -> nn.Module:
    torch.manual_seed(0)
    network = VisionTransformer(16, 8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=5)
    nn.init.normal_(network.heads.head.weight)  # torchvision starts it at zero
    return network.double()


def images(samples: int = 3, size: int = 16) -> Tensor:
    return normal(samples, 3, size, size, seed=1)


def edited(split: SplitNetwork, *names: str, seed: int = 0) -> dict[str, Tensor]:
    """Some of the editable parameters, by default all, each with a change of its own."""
    return {
        name: value.detach() + 0.1 * normal(*value.shape, seed=seed + number).to(value.dtype)
        for number, (name, value) in enumerate(split.params.items())
        if not names or name in names
    }


@torch.no_grad()
def assert_same(
    split: SplitNetwork, x: Tensor, settings: ScoringSettings = FASTEST, each: bool = False, tolerance: float = 1e-9
) -> ScoringForm:
    """The form gives the suffix's logits without an edit, with all parameters edited, and with each alone."""
    form = ScoringForm(split, split.prefix(x[:2]), settings)
    features = split.prefix(x)
    for params in ({}, edited(split), *(edited(split, name) for name in split.names if each), split.params, {}):
        ours = form(features, form.prepare(params))  # first: what it computes cannot be what the suffix left behind
        torch.testing.assert_close(ours, split.suffix(features, params), rtol=tolerance, atol=tolerance)
    return form


@all_settings
@pytest.mark.parametrize("pattern", ["layer3", "all"])
def test_equals_the_suffix(pattern: str, settings: ScoringSettings) -> None:
    split = SplitNetwork(tiny(), pattern)
    assert_same(split, images(), settings, each=pattern == "layer3")


@all_settings
def test_equals_the_suffix_in_single_precision(settings: ScoringSettings) -> None:
    """Logits are about 1 to 10; eight layers add up Winograd's relative error of 2e-6 each."""
    split = SplitNetwork(tiny().float(), "layer3")
    form = assert_same(split, images().float(), settings, tolerance=1e-4)
    features = split.prefix(images().float())
    assert form(features, form.prepare({})).dtype == torch.float32


@pytest.mark.parametrize("names", ["layer3.0.conv2.weight", "layer4.0.bn1.weight", "layer4.0.bn1.bias", "fc.weight"])
def test_what_is_left_out_keeps_the_networks_values(names: str) -> None:
    split = SplitNetwork(tiny(), ["layer3", "layer4", "fc"])
    form, features, params = assert_same(split, images()), split.prefix(images()), edited(split, names)
    with torch.no_grad():
        logits = form(features, form.prepare(params))
        assert not torch.allclose(logits, form(features, form.prepare({})), atol=1e-6)
        torch.testing.assert_close(logits, split.suffix(features, {**split.params, **params}), rtol=1e-9, atol=1e-9)


def test_no_image_and_one_image() -> None:
    split = SplitNetwork(tiny(), "layer3")
    form = assert_same(split, images())
    for samples in (0, 1):
        features = split.prefix(images(samples))
        with torch.no_grad():
            expected = split.suffix(features, {})
        torch.testing.assert_close(form(features, form.prepare({})), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("settings", [FASTEST, ScoringSettings(precision="bfloat16")], ids=["full", "bfloat16"])
def test_nothing_is_written_to(settings: ScoringSettings) -> None:
    network, x = tiny().train(), images()
    network.layer3[0].bn1.eval()
    split = SplitNetwork(network, "layer3")
    features, params = split.prefix(x), {name: value.requires_grad_() for name, value in edited(split).items()}
    watched = [*network.state_dict().values(), *params.values(), *features]
    copies = [tensor.detach().clone() for tensor in watched]
    modes = [module.training for module in network.modules()]
    needed = [parameter.requires_grad for parameter in network.parameters()]
    names = list(network.state_dict())
    form = ScoringForm(split, features, settings)
    weights = form.prepare(params)
    form(features, weights)
    form.run_together(features, [weights, form.prepare(split.params)])
    first = form(features, form.prepare({}))
    form(features, weights)
    assert torch.equal(form(features, form.prepare({})), first)  # an edit leaves nothing behind
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(watched, copies, strict=True))
    assert all(tensor.grad_fn is None and tensor.requires_grad for tensor in params.values())
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == needed
    assert list(network.state_dict()) == names


def test_later_changes_of_the_network_are_not_seen() -> None:
    split = SplitNetwork(tiny(), "layer3")
    features, some = split.prefix(images()), edited(split, "layer3.0.conv1.weight")
    forms = [ScoringForm(split, features, settings) for settings in ALL_SETTINGS]
    before = [form(features, form.prepare(params)) for form in forms for params in ({}, some)]
    with torch.no_grad():
        for tensor in split.network.state_dict().values():
            tensor.add_(1)
    after = [form(features, form.prepare(params)) for form in forms for params in ({}, some)]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


class Program(nn.Module):
    """Runs a function of its layers and the input."""

    def __init__(self, forward: Any, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.program = forward
        settled(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.program(self, x)


def conv(**settings: Any) -> nn.Conv2d:
    return nn.Conv2d(**{"in_channels": 64, "out_channels": 64, "kernel_size": 3, "padding": 1, **settings})


def norm(**settings: Any) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(64, **settings)


def in_sequence(net: Any, x: Tensor) -> Tensor:
    return F.relu(net.b(net.a(x))).mean((2, 3))


def in_reverse(net: Any, x: Tensor) -> Tensor:
    return F.relu(net.a(net.b(x))).mean((2, 3))


def in_place(net: Any, x: Tensor) -> Tensor:
    x = net.relu(net.b(net.a(x)))
    x += net.a(x)
    return net.relu(x).mean((2, 3))


def apart(net: Any, x: Tensor) -> Tensor:
    return net.b(F.relu(net.a(x))).mean((2, 3))


def keyword(net: Any, x: Tensor) -> Tensor:
    return net.b(input=net.a(input=x)).mean((2, 3))


def convolution_read_twice(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    return (net.b(x) + x).mean((2, 3))


def norm_after_itself(net: Any, x: Tensor) -> Tensor:
    return net.b(net.b(net.a(x))).mean((2, 3))


def norm_called_twice(net: Any, x: Tensor) -> Tensor:
    return (net.b(net.a(x)) + net.b(net.c(x))).mean((2, 3))


def convolution_called_twice(net: Any, x: Tensor) -> Tensor:
    return (net.b(net.a(x)) + net.d(net.a(x + 1))).mean((2, 3))


def two_branches(net: Any, x: Tensor) -> Tensor:
    return (net.b(net.a(x)) + net.d(net.c(x + 1))).mean((2, 3))


def convolution_weight_read(net: Any, x: Tensor) -> Tensor:
    return net.b(net.a(x)).mean((2, 3)) + net.a.weight.flatten(1).sum(1) + net.a.bias


def norm_weight_read(net: Any, x: Tensor) -> Tensor:
    return net.b(net.a(x)).mean((2, 3)) + net.b.weight * net.b.running_var


def viewed(net: Any, x: Tensor) -> Tensor:
    return net.b(net.a(x)).view(x.size(0), -1)


def feature_viewed(net: Any, x: Tensor) -> Tensor:
    return net.c(net.b(net.a(x)).view(-1, 64 * 4 * 4))


def shared_untraceable(net: Any, x: Tensor) -> Tensor:
    return net.b(net.d(net.a(x))).view(-1, 64 * 4 * 4) if x.sum() > -1e9 else x


def sizes(net: Any, x: Tensor) -> Tensor:
    return net.b(net.a(x)).mean((2, 3)) + net.d(net.c(F.max_pool2d(x, 2))).mean((2, 3))


def tied() -> dict[str, nn.Module]:
    layers = {"a": conv(), "b": norm(), "c": conv(bias=False), "d": norm()}
    layers["c"].weight = layers["a"].weight
    return layers


def tied_norms() -> dict[str, nn.Module]:
    layers = {"a": conv(), "b": norm(), "c": conv(bias=False), "d": norm(affine=False)}
    layers["d"].weight = layers["b"].weight
    return layers


def hooked(*names: str) -> dict[str, nn.Module]:
    layers = {"a": conv(), "b": norm()}
    for name in names:
        layers[name].register_forward_hook(lambda module, inputs, output: 2 * output)
    return layers


def all_four() -> dict[str, nn.Module]:
    return {"a": conv(), "b": norm(), "c": conv(bias=False), "d": norm()}


PROGRAMS: list[Any] = [
    (in_sequence, lambda: {"a": conv(), "b": norm()}),
    (in_sequence, lambda: {"a": conv(bias=False), "b": norm(affine=False, eps=0.1)}),
    (in_sequence, lambda: {"a": conv(), "b": norm(track_running_stats=False)}),
    (in_sequence, lambda: {"a": conv(padding_mode="reflect"), "b": norm()}),
    (in_sequence, lambda: {"a": conv(padding="same"), "b": norm()}),
    (in_sequence, lambda: {"a": conv(stride=2, groups=4), "b": norm()}),
    (in_sequence, lambda: {"a": conv(groups=64), "b": norm()}),
    (in_sequence, lambda: {"a": nn.ConvTranspose2d(64, 64, 3), "b": norm()}),
    (in_sequence, lambda: {"a": conv(), "b": nn.GroupNorm(4, 64)}),
    (in_sequence, lambda: {"a": nn.utils.parametrizations.weight_norm(conv()), "b": norm()}),
    (in_sequence, lambda: hooked("a")),
    (in_sequence, lambda: hooked("b")),
    (in_reverse, lambda: {"a": conv(), "b": norm()}),
    (in_place, lambda: {"a": conv(), "b": norm(), "relu": nn.ReLU(inplace=True)}),
    (apart, lambda: {"a": conv(), "b": norm()}),
    (keyword, lambda: {"a": conv(), "b": norm()}),
    (convolution_read_twice, lambda: {"a": conv(), "b": norm()}),
    (norm_after_itself, lambda: {"a": conv(), "b": norm()}),
    (norm_called_twice, lambda: {"a": conv(), "b": norm(), "c": conv(bias=False)}),
    (convolution_called_twice, lambda: {"a": conv(), "b": norm(), "d": norm()}),
    (two_branches, all_four),
    (two_branches, tied),
    (two_branches, tied_norms),
    (sizes, tied),
    (convolution_weight_read, lambda: {"a": conv(), "b": norm()}),
    (norm_weight_read, lambda: {"a": conv(), "b": norm()}),
    (viewed, lambda: {"a": conv(), "b": norm()}),
    (feature_viewed, lambda: {"a": conv(), "b": norm(), "c": nn.Linear(1024, 5)}),
]


@pytest.mark.parametrize("pattern", ["a", "b", "all"])
@pytest.mark.parametrize("settings", [FASTEST, *ALL_SETTINGS[1:3], ALL_SETTINGS[4]], ids=name_of)
@pytest.mark.parametrize(("program", "layers"), PROGRAMS)
def test_equals_the_suffix_whatever_the_layers(
    program: Any, layers: Any, settings: ScoringSettings, pattern: str
) -> None:
    torch.manual_seed(0)
    network = Program(program, **layers())
    if not list(network.get_submodule(pattern if pattern != "all" else "").parameters()):
        return  # BatchNorm without scale and shift has nothing to edit
    split = SplitNetwork(network, pattern)
    assert_same(split, normal(2, 64, 4, 4), settings, each=True)


@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm.*")
def test_weights_that_a_hook_computes() -> None:
    """The older ``weight_norm`` makes ``weight`` from ``weight_g`` and ``weight_v`` just before each call."""
    network = Program(in_sequence, a=nn.utils.weight_norm(conv()), b=norm())
    network(normal(1, 64, 4, 4))
    assert_same(SplitNetwork(network, "a"), normal(2, 64, 4, 4), each=True)


@all_settings
def test_network_that_cannot_be_traced(settings: ScoringSettings) -> None:
    """Also one in which a layer has two names, so that an edit of both is not to be undone twice."""
    layers = all_four()
    layers["d"] = layers["a"]
    network = Program(shared_untraceable, **layers)
    with pytest.warns(UserWarning, match="cannot be traced"):
        split = SplitNetwork(network, ["a", "b"])
    assert_same(split, normal(2, 64, 4, 4), settings, each=True)


@pytest.mark.parametrize(
    ("program", "left"),
    [
        (in_sequence, 0),
        (two_branches, 0),
        (apart, 1),
        (convolution_read_twice, 1),
        (norm_after_itself, 2),
        (norm_called_twice, 2),
        (convolution_called_twice, 2),
        (convolution_weight_read, 1),
        (norm_weight_read, 1),
    ],
)
def test_only_a_norm_that_alone_reads_its_convolution_is_folded(
    program: Any, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    normalise = F.batch_norm
    split = SplitNetwork(Program(program, **all_four()), "all")
    features = split.prefix(normal(2, 64, 4, 4))
    form = ScoringForm(split, features, FASTEST)
    monkeypatch.setattr(F, "batch_norm", lambda *args, **kwargs: called.append(1) or normalise(*args, **kwargs))
    form(features, form.prepare({}))
    assert len(called) == left


def count_winograd(split: SplitNetwork, x: Tensor, settings: ScoringSettings, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many layers compute by Winograd's algorithm in one call."""
    called = []
    convolve = WinogradConv2d.forward
    features = split.prefix(x)
    form = ScoringForm(split, features, settings)
    monkeypatch.setattr(WinogradConv2d, "forward", lambda self, x: called.append(self) or convolve(self, x))
    form(features, form.prepare({}))
    monkeypatch.undo()
    return len(called)


def test_winograd_is_used_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    split = SplitNetwork(tiny(), "layer3")
    # At 16 × 16 pixels: of layer3 the second convolution (the first has stride 2); layer4, with 2 × 2 pixels, does not.
    assert count_winograd(split, images(), FASTEST, monkeypatch) == 1
    # At 32 × 32 pixels: the second ones of layer3, with 8 × 8, and layer4, with 4 × 4.
    assert count_winograd(split, images(size=32), FASTEST, monkeypatch) == 2
    assert count_winograd(split, images(size=32), ScoringSettings(winograd=False), monkeypatch) == 0
    assert count_winograd(split, images(size=32), ScoringSettings(precision="bfloat16"), monkeypatch) == 0
    low = SplitNetwork(tiny().bfloat16(), "layer3")  # where the rounding error would be ten times what it is
    assert count_winograd(low, images(size=32).bfloat16(), FASTEST, monkeypatch) == 0
    assert count_winograd(SplitNetwork(tiny(width=4), "layer3"), images(size=32), FASTEST, monkeypatch) == 0
    both = SplitNetwork(Program(two_branches, **tied()), "a")
    assert count_winograd(both, normal(2, 64, 4, 4), FASTEST, monkeypatch) == 2
    twice = SplitNetwork(Program(convolution_called_twice, **all_four()), "a")
    assert count_winograd(twice, normal(2, 64, 4, 4), FASTEST, monkeypatch) == 0


@all_settings
@pytest.mark.parametrize(
    "pattern", ["encoder.layers.encoder_layer_1.mlp", "encoder.layers.encoder_layer_1.self_attention", "all"]
)
def test_vision_transformer(pattern: str, settings: ScoringSettings) -> None:
    assert_same(SplitNetwork(tiny_vit(), pattern), images(), settings)


class SequenceFirst(nn.Module):
    """Attention over ``[L, N, D]``: features are taken earlier, where they have one row per input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Linear(4, 4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).permute(1, 0, 2)
        y, _ = self.attention(x, x, x)
        return self.head(y + x).mean(0)


@pytest.mark.parametrize("pattern", ["attention", "head"])
def test_where_the_cut_was_moved(pattern: str) -> None:
    assert_same(SplitNetwork(SequenceFirst().double(), pattern), normal(5, 3, 4))


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("densenet121", "features.denseblock4"),
        ("mobilenet_v3_small", "features.6"),
        ("shufflenet_v2_x0_5", "stage4"),
        ("squeezenet1_1", "features.10"),
    ],
)
def test_torchvision_networks(name: str, pattern: str) -> None:
    torch.manual_seed(0)
    network = settled(models.get_model(name, num_classes=5))
    assert_same(SplitNetwork(network, pattern), images(2, 32))


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize(("network", "pattern"), [(tiny(), "layer3"), (tiny_vit(), "encoder.layers.encoder_layer_1")])
def test_bfloat16_is_close_to_full_precision(network: nn.Module, pattern: str, fold: bool) -> None:
    """A number is rounded by at most 2⁻⁹ of itself; weights and activations of about ten layers make 20 such steps.

    Rounded independently, they add up to √20 · 2⁻⁹ ≈ 1 % of the spread of the logits; three times that is allowed.
    """
    split, x = SplitNetwork(network.float(), pattern), images(16).float()
    features = split.prefix(x)
    form = ScoringForm(split, features, ScoringSettings(precision="bfloat16", fold_batch_norm=fold))
    for params in ({}, edited(split)):
        logits = form(features, form.prepare(params))
        with torch.no_grad():
            expected = split.suffix(features, params)
        error = (logits - expected).square().mean().sqrt() / expected.std(0).mean()
        assert logits.dtype == torch.float32
        assert 0 < error < 0.03
        low = tuple(feature.bfloat16() for feature in features)  # as a store may keep them
        assert torch.equal(form(low, form.prepare(params)), logits)


@all_settings
@pytest.mark.parametrize("pattern", ["layer3", "fc"])
def test_together_equals_one_by_one(pattern: str, settings: ScoringSettings) -> None:
    split = SplitNetwork(tiny(), pattern)
    features = split.prefix(images())
    form = ScoringForm(split, features, settings)
    weights = [form.prepare(edited(split, seed=seed)) for seed in (0, 100, 200)]
    with no_warning():  # torch warns where it lacks a batching rule and loops
        warnings.filterwarnings("ignore", ".*as_strided_")
        together = form.run_together(features, weights)
    expected = torch.stack([form(features, each) for each in weights])
    torch.testing.assert_close(together, expected, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


@pytest.mark.parametrize("pattern", ["encoder.layers.encoder_layer_1", "encoder.layers.encoder_layer_0.mlp"])
def test_together_equals_one_by_one_for_a_vision_transformer(pattern: str) -> None:
    split = SplitNetwork(tiny_vit(), pattern)
    features = split.prefix(images())
    form = ScoringForm(split, features, FASTEST)
    weights = [form.prepare(edited(split, seed=seed)) for seed in (0, 100)]
    with no_warning():  # torch warns where it lacks a batching rule and loops
        together = form.run_together(features, weights)
    expected = torch.stack([form(features, each) for each in weights])
    torch.testing.assert_close(together, expected, rtol=1e-9, atol=1e-9)


def test_together_where_different_parameters_were_edited() -> None:
    split = SplitNetwork(tiny(), "layer3")
    features = split.prefix(images())
    form = ScoringForm(split, features, FASTEST)
    weights = [form.prepare(edited(split, *some)) for some in (["layer3.0.bn1.bias"], ["layer3.0.conv2.weight"])]
    for several in (weights, [form.prepare({}), *weights]):
        expected = torch.stack([form(features, each) for each in several])
        torch.testing.assert_close(form.run_together(features, several), expected, rtol=1e-9, atol=1e-9)


needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile on a CPU needs a C++ compiler: g++ or CXX"
)


def compiled_gives_what_the_plain_one_does() -> None:
    split = SplitNetwork(Program(in_sequence, a=conv(), b=norm()), "a")
    features, params = split.prefix(normal(2, 64, 4, 4)), edited(split)
    form = ScoringForm(split, features, ScoringSettings(compile=True))
    with torch.no_grad():
        expected = split.suffix(features, params)
    torch.testing.assert_close(form(features, form.prepare(params)), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.no_fake_cuda(reason="torch.compile asks for more of a CUDA device")
@needs_compiler
def test_compiled_also_with_a_cache_that_another_instruction_set_filled(tmp_path: Path) -> None:
    """As machines do that share a cache directory; on a processor without AVX-512 both runs are alike."""
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    environment.pop("ATEN_CPU_CAPABILITY", None)
    name = compiled_gives_what_the_plain_one_does.__name__
    program = f"from {__name__} import {name}; {name}()"
    for variables in ({}, {"ATEN_CPU_CAPABILITY": "avx2"}):
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[3],
            env={**environment, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert ended.returncode == 0, f"with {variables}: {ended.stderr}"


def test_unknown_parameters_are_refused() -> None:
    split = SplitNetwork(tiny(), "fc")
    form = ScoringForm(split, split.prefix(images()), FASTEST)
    with pytest.raises(UserError, match=r"'conv1.weight' is not editable.*edits fc.weight, fc.bias"):
        form.prepare({"conv1.weight": split.network.conv1.weight})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"graphs": "always"}, "graphs must be 'auto' or 'never', got 'always'"),
        ({"edits_together": 0}, "edits_together must be at least 1, got 0"),
        ({"recheck": -0.5}, "recheck must be at least 0, got -0.5"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ScoringSettings(**settings)


def test_named_settings() -> None:
    assert ScoringSettings.plain(7) == ScoringSettings(
        fold_batch_norm=False, channels_last=False, winograd=False, simplify=False, batch_size=7
    )
    assert ScoringSettings.for_device(torch.device("cpu")) == ScoringSettings()
    assert ScoringSettings.for_device(torch.device("cuda")) == ScoringSettings(batch_size=512)
    low = ScoringSettings(precision="bfloat16", batch_size=3)
    assert low.in_full_precision() == ScoringSettings(batch_size=3)
    assert all(ScoringSettings.for_device(torch.device(kind)).precision == "full" for kind in ("cpu", "cuda"))


@pytest.mark.parametrize(
    ("kind", "precision"), [("AMX", "bfloat16"), ("AVX-512 BF16", "bfloat16"), ("AVX-512", "full"), ("AVX2", "full")]
)
def test_auto_is_what_the_processor_is_fastest_in(kind: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("editable.models.machine.precision.processor", lambda: kind)
    auto = ScoringSettings(precision="auto", batch_size=3)
    assert auto.on("cpu") == ScoringSettings(precision=precision, batch_size=3)
    assert auto.on("meta").precision == "full"
    asked_for = ScoringSettings(precision="bfloat16")
    assert asked_for.on("cpu") is asked_for
    split = SplitNetwork(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2)).eval(), ["2"])
    assert ScoringForm(split, split.prefix(torch.randn(2, 3, 8, 8)), auto).settings.precision == precision


def test_plain_settings_change_nothing() -> None:
    split = SplitNetwork(tiny().float(), "layer3")
    features = split.prefix(images().float())
    form = ScoringForm(split, features, ScoringSettings.plain())
    for params in ({}, edited(split)):
        with torch.no_grad():
            assert torch.equal(form(features, form.prepare(params)), split.suffix(features, params))


@pytest.mark.parametrize(
    ("in_features", "values", "expected"), [(64, 4096, 1024), (8192, 4096, 512), (64, 2**23, 1), (1, 1, 2**22)]
)
def test_batches_keep_the_largest_activation_within_16_mebibytes(in_features: int, values: int, expected: int) -> None:
    class Repeat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.repeat(1, values)[:, :1]

    split = SplitNetwork(nn.Sequential(nn.Linear(in_features, 1), Repeat(), nn.Linear(1, 1)), "all")
    assert ScoringForm(split, (torch.zeros(2, in_features),), ScoringSettings()).batch_size == expected
    assert ScoringForm(split, (torch.zeros(2, in_features),), ScoringSettings(batch_size=9)).batch_size == 9


class Joined(nn.Module):
    """Two linear layers, joined as asked."""

    def __init__(self, join: str, bias: bool = True) -> None:
        super().__init__()
        self.join = join
        self.first, self.second = nn.Linear(6, 4, bias), nn.Linear(4, 2, bias)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        match self.join:
            case "after":
                return self.second(h)
            case "sum":
                return self.second(x[:, :4] + h)
            case "sum reversed":
                return self.second(torch.add(h, x[:, :4]))
            case "scaled sum":
                return self.second(torch.add(x[:, :4], h, alpha=3))
            case "broadcast":
                return self.second(h + x[:, :1])
            case "number":
                return self.second(h + 1.0)
            case "twice":
                return self.second(h + h)
            case "read twice":
                return self.second(h) + h[:, :2]
            case "sum read twice":
                total = x[:, :4] + h
                return self.second(total) + total[:, :2]
            case _:
                return self.second(self.second(h) @ self.second.weight)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("join", "operations"),
    [
        ("after", 12),
        ("sum", 8 + 12),
        ("sum reversed", 8 + 12),
        ("scaled sum", 24 + 8),
        ("broadcast", 24 + 8),
        ("number", 24 + 8),
        ("twice", 24 + 8),
        ("read twice", 24 + 8),
        ("sum read twice", 24 + 8),
        ("second twice", 24 + 8),
    ],
)
def test_linear_layers_are_multiplied_where_that_is_less_work(join: str, operations: int, bias: bool) -> None:
    torch.manual_seed(0)
    split = SplitNetwork(Joined(join, bias).double(), ["first", "second"])
    form = assert_same(split, normal(5, 6), each=True)
    layers = [form._module.get_submodule(str(n.target)) for n in form._module.graph.nodes if n.op == "call_module"]
    found = {layer: layer.in_features * layer.out_features for layer in layers if isinstance(layer, nn.Linear)}
    assert sum(found.values()) == operations


def test_no_linear_layers_are_multiplied_where_that_is_more_work() -> None:
    split = SplitNetwork(nn.Sequential(nn.Linear(9, 2), nn.Linear(2, 9)).double(), "0")
    form = assert_same(split, normal(5, 9))
    assert form._module.get_submodule("0").weight.shape == (2, 9)


@pytest.mark.parametrize("elu", [nn.ELU(), nn.ELU(inplace=True), nn.ELU(alpha=2.0)])
def test_elu(elu: nn.Module) -> None:
    split = SplitNetwork(nn.Sequential(nn.Linear(7, 9), elu, nn.Linear(9, 3)).double(), "0")
    assert_same(split, 10 * normal(50, 7), tolerance=1e-12)


def test_the_extra_layer_equals_the_suffix_and_keeps_one_wide_product() -> None:
    torch.manual_seed(0)
    network = add_extra_layer(tiny())
    for parameter in network.fc.extra_layer.parameters():
        nn.init.normal_(parameter, std=0.1)
    split = SplitNetwork(network, "*extra_layer*")
    form = assert_same(split, images(), each=True)
    assert form._module.get_submodule("fc.extra_layer.contract").weight.shape == (5, 8 * 128)
