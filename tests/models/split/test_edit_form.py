"""The form for edits equals the suffix in values and derivatives, and leaves alone what it cannot rewrite."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vmap
from torchvision import models

from editable.editing import Editor, RMSProp
from editable.models import SplitNetwork, cifar_resnet
from editable.models.split import edit_form
from editable.models.split.edit_form import frozen_batch_norm, frozen_conv2d, patch_conv2d
from editable.models.split.form_table import FORMS, Form
from editable.models.split.tracing import trace_pure
from tests.models.reference import normal, settled
from tests.warned import no_warning


def products_up_to(most: int) -> Form:
    return FORMS["cpu"]._replace(alone=most, together=most)


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return settled(cifar_resnet(5, width=4, layers=(1, 1, 1, 1)))


def shifted(params: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: value.detach() + 0.01 for name, value in params.items()}


def assert_same(network: nn.Module, pattern: str, x: Tensor) -> SplitNetwork:
    """The form gives both halves' values for its own and for edited parameters; returns the split."""
    split = SplitNetwork(network, pattern)
    features = split.prefix(x)
    for most in (0, 512):  # as a batch and as a few images
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(FORMS, "cpu", products_up_to(most))
            torch.testing.assert_close(split.edit_prefix(x), features, rtol=1e-10, atol=1e-10)
            for params in ({}, split.params, shifted(split.params)):
                ours = split.edit_suffix(features, params)  # first: it cannot be what the suffix left behind
                torch.testing.assert_close(ours, split.suffix(features, params), rtol=1e-10, atol=1e-10)
    return split


SETTINGS = [
    # kernel, stride, padding, dilation, groups
    ((1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((1, 1), (2, 2), (0, 0), (1, 1), 1),
    ((1, 1), (3, 2), (1, 0), (1, 1), 1),
    ((3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((3, 3), (2, 2), (1, 1), (1, 1), 1),
    ((3, 3), (1, 2), (0, 2), (2, 1), 1),
    ((3, 3), (1, 1), (1, 1), (1, 1), 2),
    ((3, 3), (2, 1), (1, 1), (1, 1), 4),
    ((5, 5), (1, 1), (2, 2), (1, 1), 1),
    ((5, 5), (3, 3), (0, 0), (1, 1), 1),
    ((3, 1), (1, 1), (1, 0), (1, 1), 1),
    ((3, 1), (2, 3), (0, 1), (2, 2), 1),
    ((1, 3), (1, 1), (0, 1), (1, 2), 1),
]


@pytest.mark.parametrize("most", [0, 2048])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_patch_conv2d_equals_conv2d(setting: Any, bias: bool, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMS, "cpu", products_up_to(most))
    kernel, *rest, groups = setting
    weight = normal(8, 4 // groups, *kernel, seed=1)
    shift = normal(len(weight), seed=2) if bias else None
    for samples, height, width in ((1, 7, 7), (3, 9, 6), (2, 5, 5), (0, 7, 7)):
        x = normal(samples, 4, height, width)
        expected = F.conv2d(x, weight, shift, *rest, groups)
        for layout in (torch.contiguous_format, torch.channels_last):
            for kernel in (weight, weight.contiguous(memory_format=torch.channels_last)):
                ours = patch_conv2d(x.contiguous(memory_format=layout), kernel, shift, (*rest, groups))
                torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_few_positions_are_one_product_and_many_are_a_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    convolve = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda *arguments: called.append(arguments) or convolve(*arguments))
    weight, rest = normal(2, 2, 3, 3), ((1, 1), (1, 1), (1, 1), 1)
    monkeypatch.setitem(FORMS, "cpu", products_up_to(2 * 5 * 6))
    patch_conv2d(normal(2, 2, 5, 6), weight, None, rest)
    assert not called
    patch_conv2d(normal(3, 2, 5, 6), weight, None, rest)
    assert len(called) == 1


@pytest.mark.parametrize("setting", [SETTINGS[1], SETTINGS[5], SETTINGS[6], SETTINGS[10]], ids=str)
@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_patch_conv2d_is_differentiable_twice(setting: Any, samples: int, layout: torch.memory_format) -> None:
    kernel, *rest, groups = setting
    weight = normal(2, 2 // groups, *kernel, seed=1).contiguous(memory_format=layout)
    inputs = (normal(samples, 2, 5, 3), weight, normal(2, seed=2))
    inputs = tuple(tensor.requires_grad_() for tensor in inputs)

    def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return patch_conv2d(x, weight, bias, (*rest, groups))

    assert torch.autograd.gradcheck(convolve, inputs)
    assert torch.autograd.gradgradcheck(convolve, inputs)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_patch_conv2d_under_vmap(setting: Any, layout: torch.memory_format) -> None:
    kernel, *rest, groups = setting
    weights = normal(3, 4, 4 // groups, *kernel)
    if layout == torch.channels_last:
        weights = weights.movedim(2, -1).contiguous().movedim(-1, 2)
    shifts, x = normal(3, 4, seed=5), normal(3, 2, 4, 7, 6, seed=6)

    def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return patch_conv2d(x, weight, bias, (*rest, groups))

    with no_warning():  # torch warns where it lacks a batching rule and loops
        same = vmap(convolve, in_dims=(None, 0, 0))(x[0], weights, shifts)
        own = vmap(convolve)(x, weights, shifts)
    for edit in range(3):
        for ours, given in ((same, x[0]), (own, x[edit])):
            expected = F.conv2d(given, weights[edit], shifts[edit], *rest, groups)
            torch.testing.assert_close(ours[edit], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("affine", [(True, True), (False, False), (True, False)])
def test_frozen_batch_norm_equals_batch_norm(affine: tuple[bool, bool]) -> None:
    x, mean, variance = normal(2, 3, 4, 5), normal(3, seed=1), normal(3, seed=2).square()
    weight, bias = (normal(3, seed=seed) if given else None for seed, given in zip((3, 4), affine, strict=True))
    expected = F.batch_norm(x, mean, variance, weight, bias, training=False, eps=1e-3)
    ours = frozen_batch_norm(x, mean, variance, weight, bias, 1e-3)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)

    inputs = [tensor.requires_grad_() for tensor in (x[:, :, :2, :2].clone(), weight, bias) if tensor is not None]

    def normalise(x: Tensor, *given: Tensor) -> Tensor:
        scale = given[0] if affine[0] else None
        return frozen_batch_norm(x, mean, variance, scale, given[-1] if affine[1] else None, 1e-3)

    assert torch.autograd.gradcheck(normalise, inputs)
    assert torch.autograd.gradgradcheck(normalise, inputs)


def test_frozen_batch_norm_keeps_the_data_type() -> None:
    """BatchNorm is kept in float32 where the rest of a network has low precision, and returns what it is given."""
    x, mean, variance = normal(2, 3, 4, 5).bfloat16(), torch.zeros(3), torch.ones(3)
    assert frozen_batch_norm(x, mean, variance, torch.ones(3), torch.zeros(3), 1e-5).dtype == torch.bfloat16


@pytest.mark.parametrize("most", [0, 2048])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [(True, True), (False, False), (True, False)])
def test_frozen_conv2d_is_a_convolution_and_then_a_batch_norm(
    affine: tuple[bool, bool], bias: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMS, "cpu", products_up_to(most))
    geometry = ((2, 1), (1, 1), (1, 1), 1)
    mean, variance = normal(3, seed=1), normal(3, seed=2).square()
    given = [normal(2, 2, 4, 3), normal(3, 2, 3, 3, seed=3), *([normal(3, seed=4)] if bias else [])]
    given += [normal(3, seed=seed) for seed, present in zip((5, 6), affine, strict=True) if present]
    inputs = tuple(tensor.requires_grad_() for tensor in given)

    def arguments(inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        x, weight, *others = inputs
        shift = others.pop(0) if bias else None
        return x, weight, shift, *(others.pop(0) if present else None for present in affine)

    def ours(*inputs: Tensor) -> Tensor:
        x, weight, shift, norm_weight, norm_bias = arguments(inputs)
        return frozen_conv2d(x, weight, shift, geometry, mean, variance, norm_weight, norm_bias, 1e-3)

    x, weight, shift, norm_weight, norm_bias = arguments(inputs)
    values = F.conv2d(x, weight, shift, *geometry)
    expected = F.batch_norm(values, mean, variance, norm_weight, norm_bias, training=False, eps=1e-3)
    torch.testing.assert_close(ours(*inputs), expected, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(ours, inputs)
    assert torch.autograd.gradgradcheck(ours, inputs)


def test_a_convolution_and_its_norm_become_one_and_others_do_not() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        first = self.conv1(x)
        second = self.bn1(first)
        return self.fc((self.bn2(self.conv2(second)) + first).flatten(1))  # the first convolution is read twice

    layers = {"conv1": nn.Conv2d(3, 3, 3), "bn1": nn.BatchNorm2d(3), "conv2": nn.Conv2d(3, 3, 1)}
    network = Program(forward, **layers, bn2=nn.BatchNorm2d(3), fc=nn.Linear(12, 4)).double()
    assert_same(network, "all", normal(2, 3, 4, 4))
    graph = edit_form.edit_form(trace_pure(network.eval()), network)
    called = [node.target for node in graph.nodes if node.op == "call_function"]
    assert [called.count(function) for function in (patch_conv2d, frozen_batch_norm, frozen_conv2d)] == [1, 1, 1]


@pytest.mark.parametrize("pattern", ["all", "layer3.0.conv2", "layer4", "layer2.0.bn1", "bn1", "fc"])
def test_equals_the_suffix_of_a_residual_network(pattern: str) -> None:
    network = tiny()
    for samples in (1, 3, 0):
        assert_same(network, pattern, normal(samples, 3, 8, 8))


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("densenet121", "features.denseblock4"),
        ("mobilenet_v3_small", "features.6"),
        ("shufflenet_v2_x0_5", "stage4"),
    ],
)
def test_equals_the_suffix_of_torchvision_networks(name: str, pattern: str) -> None:
    torch.manual_seed(0)
    network = settled(models.get_model(name, num_classes=5))
    with torch.no_grad():
        assert_same(network, pattern, normal(2, 3, 32, 32))


class Program(nn.Module):
    """Runs a function of its layers and the input."""

    def __init__(self, forward: Any, **layers: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.program = forward
        settled(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.program(self, x)


def conv(c: int = 4, f: int = 4, **settings: Any) -> nn.Conv2d:
    return nn.Conv2d(c, f, 3, **{"padding": 1, **settings})


def control_flow(net: Any, x: Tensor) -> Tensor:
    return net.b(net.a(x)).mean((2, 3)) if x.sum() > -1e9 else x


def keyword(net: Any, x: Tensor) -> Tensor:
    return net.b(input=net.a(input=x)).mean((2, 3))


def twice(net: Any, x: Tensor) -> Tensor:
    return net.b(net.a(net.b(net.a(x)))).mean((2, 3))


def in_sequence(net: Any, x: Tensor) -> Tensor:
    return F.relu(net.b(F.relu(net.a(x)))).mean((2, 3))


def in_place(net: Any, x: Tensor) -> Tensor:
    x = net.relu(net.a(x))
    x += net.b(x)
    return net.relu(x).mean((2, 3))


def viewed(net: Any, x: Tensor) -> Tensor:
    x = F.relu(net.b(F.relu(net.a(x))))
    return x.view(x.size(0), -1)


def viewed_as_another(net: Any, x: Tensor) -> Tensor:
    return net.b(F.relu(net.a(x))).view_as(x.flatten(1))


def viewed_as_bits(net: Any, x: Tensor) -> Tensor:
    x = net.b(net.a(x))
    return x.view(torch.int64).view(torch.float64).mean((2, 3))


def weights_read(net: Any, x: Tensor) -> Tensor:
    return net.b(net.a(x)).mean((2, 3)) + net.a.weight.sum() * net.b.bias.sum()


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("pattern", ["a", "b", "all"])
@pytest.mark.parametrize(
    ("program", "layers"),
    [
        (in_sequence, {"a": conv(padding_mode="reflect"), "b": conv(padding_mode="circular")}),
        (in_sequence, {"a": conv(padding="same"), "b": conv(padding="valid", bias=False)}),
        (in_sequence, {"a": conv(dilation=2, padding="same"), "b": conv(groups=2)}),
        (in_sequence, {"a": conv(f=6, stride=2), "b": nn.BatchNorm2d(6)}),
        (in_sequence, {"a": conv(), "b": nn.BatchNorm2d(4, eps=0.1)}),
        (in_sequence, {"a": conv(), "b": nn.GroupNorm(2, 4)}),
        (in_sequence, {"a": nn.ConvTranspose2d(4, 4, 3), "b": conv()}),
        (in_sequence, {"a": nn.utils.parametrizations.weight_norm(conv()), "b": nn.utils.spectral_norm(conv())}),
        (keyword, {"a": conv(), "b": nn.BatchNorm2d(4)}),
        (twice, {"a": conv(), "b": nn.BatchNorm2d(4)}),
        (in_place, {"a": conv(), "b": conv(), "relu": nn.ReLU(inplace=True)}),
        (viewed, {"a": conv(), "b": conv()}),
        (viewed_as_another, {"a": conv(), "b": conv()}),
        (viewed_as_bits, {"a": conv(), "b": conv()}),
        (weights_read, {"a": conv(), "b": nn.BatchNorm2d(4)}),
    ],
)
def test_equals_the_suffix_whatever_the_layers(program: Any, layers: Any, pattern: str, samples: int) -> None:
    assert_same(Program(program, **layers), pattern, normal(samples, 4, 6, 5))


def test_activation_in_place_of_a_convolution() -> None:
    """The convolution returns a view, into which ``nn.ReLU(inplace=True)`` then writes."""
    split = SplitNetwork(Program(in_place, a=conv(2, 2), b=conv(2, 2), relu=nn.ReLU(inplace=True)), "all")
    features = split.prefix(normal(2, 2, 3, 3))
    params = {name: value.detach().clone().requires_grad_() for name, value in split.params.items()}

    def logits(*values: Tensor) -> Tensor:
        return split.edit_suffix(features, dict(zip(params, values, strict=True)))

    assert torch.autograd.gradgradcheck(logits, tuple(params.values()))
    stacked = {name: torch.stack([value, value + 0.1]).detach() for name, value in params.items()}
    out = vmap(split.edit_suffix, in_dims=(None, 0))(features, stacked)
    expected = split.suffix(features, {name: value[1] for name, value in stacked.items()})
    torch.testing.assert_close(out[1], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4, track_running_stats=False)])
def test_batch_norm_without_scale_or_statistics(norm: nn.Module) -> None:
    assert_same(Program(in_sequence, a=conv(bias=False), b=norm), "a", normal(3, 4, 6, 5))


def test_network_that_cannot_be_traced() -> None:
    network = Program(control_flow, a=conv(), b=nn.BatchNorm2d(4))
    with pytest.warns(UserWarning, match="cannot be traced"):
        assert_same(network, "b", normal(2, 4, 6, 5))


@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm.*:UserWarning")
def test_weights_that_a_hook_computes() -> None:
    """The older ``weight_norm`` makes ``weight`` from ``weight_g`` and ``weight_v`` just before each call."""
    network = Program(in_sequence, a=nn.utils.weight_norm(conv()), b=conv())
    split = assert_same(network, "a", normal(2, 4, 6, 5))
    assert "a.weight_g" in split.names


def test_hooks_run() -> None:
    network = Program(in_sequence, a=conv(), b=nn.BatchNorm2d(4))
    for layer in (network.a, network.b):
        layer.register_forward_hook(lambda module, inputs, output: 2 * output)
    assert_same(network, "all", normal(2, 4, 6, 5))


def test_buffers_are_read_when_called() -> None:
    network, x = tiny(), normal(2, 3, 8, 8)
    split = assert_same(network, "layer3", x)
    before = split.edit_suffix(split.prefix(x), {})
    network.layer4[0].bn1.running_mean += 1
    features = split.prefix(x)
    assert not torch.equal(split.edit_suffix(features, {}), before)
    torch.testing.assert_close(split.edit_suffix(features, {}), split.suffix(features, {}), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("pattern", ["layer3", "layer4.0.conv2", "all"])
def test_edit_has_the_same_gradients_and_meta_gradients(pattern: str, samples: int) -> None:
    network = tiny()
    split, editor = SplitNetwork(network, pattern), Editor(RMSProp(learning_rate=1e-3, epsilon=1e-6), 3, margin=100)
    editor.double()
    x, labels = normal(samples, 3, 8, 8), torch.arange(samples) + 2
    learned = [*network.parameters(), *editor.parameters()]
    results = []
    for forward in (split.suffix, split.edit_suffix):
        features = split.prefix(x)
        edited = editor(forward, split.params, features, labels, differentiable=True)
        outer = split.suffix(split.prefix(normal(2, 3, 8, 8, seed=5)), edited.params).logsumexp(1).sum()
        meta = torch.autograd.grad(outer + edited.loss, learned)
        results.append((edited.params, meta))
    assert edited.num_steps == 3
    torch.testing.assert_close(results[1], results[0], rtol=1e-7, atol=1e-9)


def test_edits_made_together_equal_edits_one_by_one() -> None:
    split, editor = SplitNetwork(tiny(), "layer4"), Editor(RMSProp(learning_rate=1e-3), 4, margin=100).double()
    x, labels = normal(3, 1, 3, 8, 8), torch.tensor([[0], [1], [4]])
    features = tuple(torch.stack(each) for each in zip(*(split.prefix(one) for one in x), strict=True))
    with no_warning():  # torch warns where it lacks a batching rule and loops
        together = editor.edit_many(split.edit_suffix, split.params, features, labels)
    for edit in range(3):
        alone = editor(split.suffix, split.params, tuple(feature[edit] for feature in features), labels[edit])
        for name, value in alone.params.items():
            torch.testing.assert_close(together.params[name][edit], value, rtol=1e-7, atol=1e-9)


def test_network_is_untouched() -> None:
    network, x = tiny().train(), normal(2, 3, 8, 8)
    network.layer3[0].bn1.eval()
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    split = SplitNetwork(network, "layer2")
    params = shifted(split.params)
    kept = {name: value.clone() for name, value in params.items()}
    split.edit_suffix(split.prefix(x), params).sum().backward()
    with pytest.raises(RuntimeError, match="shape"):
        split.edit_suffix((normal(2, 3, 2, 2),), params)
    assert [module.training for module in network.modules()] == modes
    assert network.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(torch.equal(value, kept[name]) for name, value in params.items())


class Watched(nn.Linear):
    """Counts how often its mode is looked at."""

    reads = 0

    @property
    def training(self) -> bool:
        Watched.reads += 1
        return self.__dict__["mode"]

    @training.setter
    def training(self, mode: bool) -> None:
        self.__dict__["mode"] = mode


def test_modes_of_the_prefix_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watched, "__module__", "torch.nn.watched")  # tracing calls it as a whole, like torch's layers
    network = nn.Sequential(*(Watched(4, 4) for _ in range(10)), nn.Linear(4, 2))
    x = torch.randn(3, 4)
    split = SplitNetwork(network, "10")
    features = split.prefix(x)
    Watched.reads = 0
    split.prefix(x)
    assert Watched.reads
    for suffix in (split.suffix, split.edit_suffix):
        Watched.reads = 0
        suffix(features, split.params)
        assert Watched.reads == 0
