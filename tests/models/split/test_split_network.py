"""A split network equals the whole network bit for bit, leaves it untouched, and does not repeat work."""

import copy
import io
import pickle
from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torchvision import models
from torchvision.models.vision_transformer import VisionTransformer

from editable.errors import UserError
from editable.models import SplitNetwork, cifar_resnet, cifar_resnet18, evaluation_mode
from tests.warned import no_warning, one_warning, whatever_is_warned


def network_named(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "cifar_resnet18":
        network: nn.Module = cifar_resnet18()
    elif name == "three layers of vit_b_16":
        network = VisionTransformer(64, 16, num_layers=3, num_heads=12, hidden_dim=768, mlp_dim=3072)
    else:
        network = models.get_model(name)
    for module in network.modules():  # statistics that batches would not have
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2.0)
    return network.train()


def tiny(num_classes: int = 5, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return cifar_resnet(num_classes, width=4, layers=(1, 1, 1, 1))


def tiny_vit() -> nn.Module:
    torch.manual_seed(0)
    network = VisionTransformer(16, 8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=5)
    nn.init.normal_(network.heads.head.weight)  # torchvision starts it at zero
    return network


def images(batch: int = 2, size: int = 8) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def whole(network: nn.Module, x: Tensor, params: dict[str, Tensor] | None = None) -> Tensor:
    """The reference: the network run as a whole in evaluation mode."""
    with evaluation_mode(network):
        return functional_call(network, params or {}, (x.clone(),))


def shifted(params: dict[str, Any], amount: float = 0.01) -> dict[str, Tensor]:
    return {name: value.detach() + amount for name, value in params.items()}


def snapshot(network: nn.Module) -> tuple[dict[str, Tensor], list[bool], list[str]]:
    state = {name: value.clone() for name, value in network.state_dict().items()}
    return state, [module.training for module in network.modules()], sorted(vars(network))


def assert_untouched(network: nn.Module, before: tuple[dict[str, Tensor], list[bool], list[str]]) -> None:
    state, training, attributes = snapshot(network)
    assert all(torch.equal(value, before[0][name]) for name, value in state.items())
    assert (state.keys(), training, attributes) == (before[0].keys(), *before[1:])


@pytest.mark.parametrize(
    ("name", "size", "middle", "classifier"),
    [
        ("cifar_resnet18", 32, "layer3", "fc"),
        ("resnet18", 64, "layer3.0.conv2", "fc"),
        ("densenet169", 32, "features.denseblock3.denselayer7", "classifier"),
        ("vgg16_bn", 32, "features.24", "classifier.6"),
        ("mobilenet_v3_small", 64, "features.6", "classifier.3"),
        ("mobilenet_v3_large", 64, "features.8.block.1", "classifier.3"),
        ("convnext_tiny", 32, "features.5.4", "classifier.2"),
        ("three layers of vit_b_16", 64, "encoder.layers.encoder_layer_1.mlp", "heads.head"),
    ],
)
def test_equals_the_whole_network(name: str, size: int, middle: str, classifier: str) -> None:
    network, x = network_named(name), images(size=size)
    before = snapshot(network)
    with torch.no_grad():
        expected = whole(network, x)
        for pattern in (middle, classifier, "all"):
            split = SplitNetwork(network, pattern)
            features = split.prefix(x)
            kept = [feature.clone() for feature in features]
            assert torch.equal(split.suffix(features, split.params), expected)
            assert torch.equal(split.suffix(features, {}), expected)
            assert all(feature.shape[0] == len(x) for feature in features)
            assert all(torch.equal(*pair) for pair in zip(features, kept, strict=True))
            if pattern == middle:
                params = shifted(split.params)
                assert torch.equal(split.suffix(features, params), whole(network, x, params))
    assert_untouched(network, before)


@pytest.mark.parametrize("pattern", ["layer2", "layer3.0.conv1", "layer4.0.downsample.1", "bn1", "layer2.0.bn2"])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_any_cut_of_a_residual_network(pattern: str, requires_grad: bool) -> None:
    network, x = tiny(), images()
    with torch.set_grad_enabled(requires_grad):
        split = SplitNetwork(network, pattern)
        params = shifted(split.params)
        assert torch.equal(split.suffix(split.prefix(x), params), whole(network, x, params))


def test_work_is_divided_by_dependency() -> None:
    network, calls = tiny(), Counter()
    split = SplitNetwork(network, "layer3.0.conv1")
    for name, module in network.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    split.prefix(images())
    calls.clear()  # the first call of the prefix also tries the cut
    features = split.prefix(images())
    before = set(calls)
    calls.clear()
    split.suffix(features, split.params)
    leaves = {name for name, module in network.named_modules() if not list(module.children())}
    assert before | set(calls) == leaves
    assert not before & set(calls)
    assert {"layer2.0.conv2", "layer3.0.downsample.0"} <= before
    assert len(features) == 2


class _Shifted(nn.Module):
    """Reads one parameter without calling a module."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(4))
        self.first, self.second, self.aside = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.aside(self.second(self.first(x + self.shift)))


@pytest.mark.parametrize("name", ["shift", "first.weight", "first.bias", "second.running_mean", "aside.weight"])
def test_features_depend_on_what_leads_to_them(name: str) -> None:
    """By changing the value and looking whether features change."""
    network = _Shifted().eval()
    split, x = SplitNetwork(network, "aside"), torch.randn(2, 4)
    before = split.prefix(x)[0].clone()
    with torch.no_grad():
        network.state_dict()[name].add_(1)
    assert split.features_depend_on([name]) == (not torch.equal(split.prefix(x)[0], before))
    assert not split.features_depend_on([])


def test_parameters_are_the_networks_own() -> None:
    network = tiny()
    split = SplitNetwork(network, ["layer4", "fc"])
    assert split.names == tuple(name for name, _ in network.named_parameters() if name.startswith(("layer4", "fc")))
    assert all(parameter is network.get_parameter(name) for name, parameter in split.params.items())
    assert sum(parameter.requires_grad for parameter in split.params.values()) == len(split.names)


class LiveState(nn.Module):
    """Reads a parameter, buffers and a plain tensor by attribute, on both sides of the cut, one of them sliced."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.rand(4))
        self.register_buffer("mean", torch.rand(6))
        self.register_buffer("tail", torch.rand(4))
        self.offset = torch.ones(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x - self.mean[:4]) * self.scale + self.offset) + self.tail * self.mean[2:]


def test_state_is_read_when_called() -> None:
    network, x = LiveState(), torch.randn(3, 4)
    split = SplitNetwork(network, "second")
    assert torch.equal(split.suffix(split.prefix(x), split.params), whole(network, x))
    network.load_state_dict(LiveState().state_dict())
    assert torch.equal(split.suffix(split.prefix(x), split.params), whole(network, x))
    whole(network, x).sum().backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert torch.equal(split.suffix(split.prefix(x), split.params), whole(network, x))
    network.double()  # replaces buffers
    network.offset = torch.zeros(4)
    x = x.double()
    assert split.suffix(split.prefix(x), split.params).dtype == torch.float64
    assert torch.equal(split.suffix(split.prefix(x), split.params), whole(network, x))
    network.to("meta").offset = torch.zeros(4, device="meta")
    assert split.suffix(split.prefix(x.to("meta")), split.params).is_meta


def test_class_token_and_position_are_repeated_in_the_suffix() -> None:
    network, x = tiny_vit(), images(3, 16)
    before = snapshot(network)
    for pattern in ("class_token", "encoder.pos_embedding", "conv_proj", "encoder.layers.encoder_layer_1"):
        split = SplitNetwork(network, pattern)
        params = shifted(split.params)
        assert torch.equal(split.suffix(split.prefix(x), params), whole(network, x, params))
    assert_untouched(network, before)


def test_always_in_evaluation_mode() -> None:
    network, x = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Linear(4, 2)), torch.randn(3, 4)
    network[0].eval()
    modes = [module.training for module in network.modules()]
    split = SplitNetwork(network, "3")
    assert torch.equal(split.suffix(split.prefix(x), split.params), whole(network.eval(), x))
    for module, mode in zip(network.modules(), modes, strict=True):
        module.training = mode
    with pytest.raises(RuntimeError, match="shape"):
        split.suffix((torch.randn(3, 7),), split.params)
    assert [module.training for module in network.modules()] == modes
    assert network[2].num_batches_tracked == 0


class FunctionalDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.dropout(F.dropout(x, 0.9, self.training), 0.9, training=self.training, inplace=True))


def test_functional_dropout_does_not_depend_on_the_mode_at_construction() -> None:
    network, x = FunctionalDropout().train(), torch.ones(2, 4)
    split = SplitNetwork(network, "linear")
    assert torch.equal(split.suffix(split.prefix(x), split.params), network.eval()(x))


def test_evaluation_mode_restores_mixed_modes_after_an_exception() -> None:
    network = tiny().train()
    network.layer2.eval()
    modes = [module.training for module in network.modules()]
    with evaluation_mode(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == modes
    with pytest.raises(RuntimeError, match="channels"), evaluation_mode(network):
        network(torch.randn(1, 7, 8, 8))
    assert [module.training for module in network.modules()] == modes


def test_sequential_shared_and_tied() -> None:
    shared = nn.Linear(4, 4)
    tied = nn.Linear(4, 4)
    tied.weight = nn.Parameter(torch.randn(4, 4))
    twin = nn.Linear(4, 4)
    twin.weight = tied.weight
    network = nn.Sequential(nn.Linear(4, 4), shared, nn.ReLU(inplace=True), tied, shared, twin, nn.Linear(4, 2))
    before, x = snapshot(network), torch.randn(3, 4)
    for pattern in ("1", "3", "5", "4", "6", "all"):
        split = SplitNetwork(network, pattern)
        params = shifted(split.params)
        edited = copy.deepcopy(network)
        with torch.no_grad():
            for name, value in params.items():
                edited.get_parameter(name).copy_(value)
        assert torch.equal(split.suffix(split.prefix(x), params), edited(x))
        assert_untouched(network, before)
    assert SplitNetwork(network, "5").names == ("3.weight", "5.bias")


def test_vmap_over_parameters_equals_a_loop() -> None:
    network, x = tiny(), images(3)
    split = SplitNetwork(network, "layer3")
    features = split.prefix(x)
    edits = [shifted(split.params, 0.02 * number) for number in range(4)]
    stacked = {name: torch.stack([params[name] for params in edits]) for name in split.names}
    same = vmap(split.suffix, in_dims=(None, 0))(features, stacked)
    torch.testing.assert_close(same, torch.stack([split.suffix(features, params) for params in edits]))
    rows = tuple(torch.stack([feature[[0]], feature[[1]], feature[[2]], feature[[0]]]) for feature in features)
    own = vmap(split.suffix)(rows, stacked)
    expected = [split.suffix(tuple(row[number] for row in rows), params) for number, params in enumerate(edits)]
    torch.testing.assert_close(own, torch.stack(expected))


@pytest.mark.parametrize("pattern", ["layer1.0.downsample", "layer2.0.downsample", "layer2.0.conv2", "conv1"])
def test_vmap_where_a_feature_was_written_in_place(pattern: str) -> None:
    network, x = tiny(), images(3)
    if pattern == "layer1.0.downsample":
        network.layer1[0].downsample = nn.Conv2d(4, 4, 1)
    split = SplitNetwork(network, pattern)
    stacked = {name: torch.stack([value, value + 0.1]).detach() for name, value in split.params.items()}
    out = vmap(split.suffix, in_dims=(None, 0))(split.prefix(x), stacked)
    torch.testing.assert_close(out[1], whole(network, x, {name: value[1] for name, value in stacked.items()}))


def test_vision_transformer_under_vmap_keeps_off_the_fused_layer() -> None:
    network, x = tiny_vit().eval(), images(3, 16)
    split = SplitNetwork(network, "encoder.layers.encoder_layer_0")
    stacked = {name: torch.stack([value, value + 0.1]).detach() for name, value in split.params.items()}
    with torch.no_grad(), no_warning():  # torch warns where it lacks a batching rule and loops
        out = vmap(split.suffix, in_dims=(None, 0))(split.prefix(x), stacked)
    torch.testing.assert_close(out[1], whole(network, x, {name: value[1] for name, value in stacked.items()}))
    assert torch.backends.mha.get_fastpath_enabled()


def test_functional_gradient_equals_autograd() -> None:
    network, x = tiny(), images()
    split = SplitNetwork(network, "layer4")
    features = split.prefix(x)
    functional = grad(lambda params: split.suffix(features, params).square().sum())(split.params)
    expected = torch.autograd.grad(whole(network, x).square().sum(), list(split.params.values()))
    torch.testing.assert_close(list(functional.values()), list(expected))


def meta_gradient(logits: Any, params: dict[str, nn.Parameter], network: nn.Module) -> list[Tensor]:
    """Gradient, for all parameters of the network, of a loss after one differentiable step on `params`."""
    inner = torch.autograd.grad(logits(params).square().sum(), list(params.values()), create_graph=True)
    edited = {name: value - 0.01 * step for (name, value), step in zip(params.items(), inner, strict=True)}
    return list(torch.autograd.grad(logits(edited).logsumexp(1).sum(), list(network.parameters())))


@pytest.mark.parametrize(("network", "pattern", "size"), [(tiny(), "layer3", 8), (tiny_vit(), "encoder.layers", 16)])
def test_second_order_gradients_reach_both_halves(network: nn.Module, pattern: str, size: int) -> None:
    x = images(size=size).double()
    network = copy.deepcopy(network).double()
    split = SplitNetwork(network, pattern)
    with sdpa_kernel(SDPBackend.MATH):
        features = split.prefix(x)
        ours = meta_gradient(lambda params: split.suffix(features, params), split.params, network)
        theirs = meta_gradient(lambda params: whole(network, x, params), split.params, network)
    torch.testing.assert_close(ours, theirs)


class Program(nn.Module):
    """Runs a function of its layers and the input, as a forward to be traced."""

    def __init__(self, forward: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.relu = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU(inplace=True)
        self.program = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.program(self, x)


def later_use_of_a_written_value(net: Any, x: Tensor) -> Tensor:
    h = net.a(x)
    identity = h
    h += net.b(x)
    return h + identity


def write_after_the_suffix_has_read(net: Any, x: Tensor) -> Tensor:
    h = x * 1.5
    y = net.b(h)
    net.relu(h)
    return y + h + net.a(x)


def write_into_a_feature(net: Any, x: Tensor) -> Tensor:
    h = net.a(x)
    h *= net.b(x)
    h.sub_(1)
    return h.mul_(2) + torch.relu_(h)


def write_into_the_input(net: Any, x: Tensor) -> Tensor:
    x.add_(1)
    x = net.relu(x)
    return net.b(F.relu(x - 0.1, inplace=True)) + net.a(x) + F.relu(x, True)


def write_without_counterpart(net: Any, x: Tensor) -> Tensor:
    h = net.a(x)
    g = net.b(h)
    h.zero_()
    return g + h


def write_keeps_the_dtype(net: Any, x: Tensor) -> Tensor:
    h = net.a(x).half()
    h += net.b(x)
    return h


def numbers_are_not_written_to(net: Any, x: Tensor) -> Tensor:
    n = x.shape[0]
    m = n
    n *= 2
    return net.b(net.a(x)) * n + m


def write_into_a_fresh_view(net: Any, x: Tensor) -> Tensor:
    h = net.a(x)
    y = net.b(h)
    v = h.reshape(-1, 2, 2)
    net.relu(v)
    return y + v.flatten(1)


def write_into_a_chunk(net: Any, x: Tensor) -> Tensor:
    left, right = net.a(x).chunk(2, dim=1)
    return net.b(torch.cat([left, net.relu(right)], dim=1))


@pytest.mark.parametrize("pattern", ["a", "b", "all"])
@pytest.mark.parametrize(
    "program",
    [
        later_use_of_a_written_value,
        write_after_the_suffix_has_read,
        write_into_a_feature,
        write_into_the_input,
        write_without_counterpart,
        write_keeps_the_dtype,
        numbers_are_not_written_to,
        write_into_a_fresh_view,
    ],
)
def test_in_place_operations(program: Any, pattern: str) -> None:
    network, x = Program(program), torch.randn(3, 4)
    with no_warning(), torch.no_grad():  # none of these falls back to the whole network
        split, given = SplitNetwork(network, pattern), x.clone()
        params = shifted(split.params, 0.3)
        features = split.prefix(x)
        assert torch.equal(split.suffix(features, params), whole(network, given, params))
        assert torch.equal(split.suffix(features, params), whole(network, given, params))
        assert torch.equal(x, given)


def test_writing_into_a_view_whose_base_is_read_later_falls_back() -> None:
    network, x = Program(write_into_a_chunk), torch.randn(3, 4)
    with pytest.warns(UserWarning, match="'relu' writes in place into memory that 'getitem' may share"):
        split = SplitNetwork(network, "b")
    with torch.no_grad():
        assert torch.equal(split.suffix(split.prefix(x), split.params), whole(network, x))


class RandomProgram(nn.Module):
    """Random operations, many of them in place or views, whose values are all read again at the end."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.activation = nn.Hardtanh(inplace=True)
        self.steps = [*torch.randint(0, 1000, (12, 3)).tolist(), *([0, n, n] for n in range(3))]

    def forward(self, x: Tensor) -> Tensor:
        values = [x, x + 1]
        for operation, i, j in self.steps:
            one, other = values[i % len(values)], values[j % len(values)]
            match operation % 9:
                case 0 | 1:
                    values.append(self.layers[j % 3](one))
                case 2:
                    one += other * 0.5
                    values.append(one)
                case 3:
                    values.append(one.sub_(0.1))
                case 4:
                    values.append(self.activation(one))
                case 5:
                    values.append(F.relu(one, inplace=True))
                case 6 | 7:
                    values.append(one * other.sigmoid())
                case _:
                    values.append(one.view(-1, 4) if operation % 2 else one + other)
        return torch.stack(values).sum(0)


def test_random_programs() -> None:
    divided = 0
    for seed in range(40):
        network, x = RandomProgram(seed).double(), torch.randn(3, 4, dtype=torch.float64)
        for pattern in ("layers.0", "layers.1"):
            with whatever_is_warned() as caught, torch.no_grad():
                split, given = SplitNetwork(network, pattern), x.clone()
                params = shifted(split.params, 0.3)
                features = split.prefix(x)
                assert torch.equal(split.suffix(features, params), whole(network, given, params)), (seed, pattern)
                assert torch.equal(split.suffix(features, params), whole(network, given, params)), (seed, pattern)
                assert torch.equal(x, given)
            divided += not caught
    assert divided > 40


class SequenceFirst(nn.Module):
    """Attention over ``[L, N, D]``: the values in the middle have their batch in the second dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).permute(1, 0, 2)
        left, right = x.chunk(2, dim=2)
        y, _ = self.attention(x, x, x)
        return self.head(y + torch.cat((right, left), dim=2)).mean(0)


@pytest.mark.parametrize("pattern", ["attention", "head"])
@pytest.mark.parametrize("batch", [1, 3, 5])
def test_features_have_one_row_per_input(pattern: str, batch: int) -> None:
    network, x = SequenceFirst().eval(), torch.randn(batch, 3, 4)
    split = SplitNetwork(network, pattern)
    features = split.prefix(x)
    for other in (split, copy.deepcopy(split), pickle.loads(pickle.dumps(split))):
        assert torch.equal(other.suffix(features, other.params), whole(network, x))
        for row in range(batch):
            logits = other.suffix(tuple(feature[row : row + 1] for feature in features), other.params)
            torch.testing.assert_close(logits, whole(network, x[row : row + 1]))


class ManyKinds(nn.Module):
    """Tuples, shapes and constants cross the cut."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor, double: bool = False) -> Tensor:
        h = self.a(x)
        parts = h.chunk(2, dim=1)
        n, width = h.size()
        out = torch.cat(parts[::-1], dim=1) + self.b(h).view(n, width)
        return 2 * out if double else out + x.new_zeros(n, 1) + x.new_ones(width)


def test_only_tensors_become_features() -> None:
    network, x = ManyKinds(), torch.randn(3, 4)
    try:
        torch.fx.symbolic_trace(network, {"double": False})
    except TypeError as error:  # torch 2.8
        pytest.skip(f"this torch traces no torch.cat of a part of a tuple: {error}")
    with no_warning():
        split = SplitNetwork(network, "b")
    features = split.prefix(x)
    assert all(isinstance(feature, Tensor) and feature.shape[0] == 3 for feature in features)
    params = shifted(split.params)
    assert torch.equal(split.suffix(features, params), whole(network, x, params))
    two = tuple(feature[:2] for feature in features)
    assert torch.equal(split.suffix(two, params), whole(network, x[:2], params))


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x.add_(1)
        return self.b(self.a(x)) if x.sum() > 0 else self.b(x)


def test_untraceable_network_warns_and_is_run_as_a_whole() -> None:
    network, x = Untraceable(), torch.randn(3, 4)
    with one_warning("cannot be traced.*control flow.*runs again") as caught:
        split = SplitNetwork(network, "b")
    assert caught[0].filename == __file__
    given, params = x.clone(), shifted(split.params)
    with torch.no_grad():
        (feature,) = split.prefix(x)
        assert feature is x
        for _ in range(2):
            assert torch.equal(split.suffix((feature,), params), whole(network, given, params))
    with no_warning():  # a copy does not warn again
        copied = copy.deepcopy(split)
    assert torch.equal(copied.suffix((x,), params), split.suffix((x,), params))


def test_constant_made_in_the_forward_is_not_stored_on_the_network() -> None:
    network = Program(lambda net, x: net.b(net.a(x) - torch.tensor([0.0, 0.1, 0.2, 0.3])))
    before, x = snapshot(network), torch.randn(3, 4)
    with pytest.warns(UserWarning, match="register it as a buffer"):
        split = SplitNetwork(network, "b")
    assert torch.equal(split.suffix(split.prefix(x), split.params), whole(network, x))
    assert_untouched(network, before)


def test_compiled_network_is_refused() -> None:
    network = tiny()
    with pytest.raises(UserError, match=r"OptimizedModule was given to torch.compile"):
        SplitNetwork(torch.compile(network), "fc")
    network.layer2.compile()
    with pytest.raises(UserError, match=r"'layer2'.*torch.compile"):
        SplitNetwork(network, "fc")


def test_wrong_names_are_refused() -> None:
    network = tiny()
    with pytest.raises(UserError, match="near names are layer4"):
        SplitNetwork(network, "layer44")
    split = SplitNetwork(network, "fc")
    with pytest.raises(UserError, match=r"'conv1.weight' is not editable.*edits fc.weight, fc.bias"):
        split.suffix(split.prefix(images()), {"conv1.weight": network.conv1.weight})


def test_parameters_without_influence_are_refused() -> None:
    network = Program(lambda net, x: net.a(x))
    with pytest.raises(UserError, match=r"editing b.weight, b.bias cannot change the output of Program"):
        SplitNetwork(network, "b")


def test_plain_attribute_of_a_module() -> None:
    task = nn.Module()
    task.network = tiny()
    names = list(task.state_dict())
    task.split = SplitNetwork(task.network, "layer4")
    assert list(task.state_dict()) == names
    copied = copy.deepcopy(task)
    assert copied.split.network is copied.network
    assert copied.network is not task.network
    assert copied.split.params["layer4.0.conv1.weight"] is copied.network.layer4[0].conv1.weight
    buffer = io.BytesIO()
    pickle.dump(task.split, buffer)
    loaded, x = pickle.loads(buffer.getvalue()), images()
    assert torch.equal(loaded.suffix(loaded.prefix(x), loaded.params), whole(task.network, x))


def test_empty_batch_and_other_sizes() -> None:
    network = tiny()
    split = SplitNetwork(network, "layer3")
    assert split.suffix(split.prefix(images()[:0]), split.params).shape == (0, 5)
    x = images(size=16)
    assert torch.equal(split.suffix(split.prefix(x), split.params), whole(network, x))
