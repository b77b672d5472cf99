"""Networks grown by new classes: the old logits are untouched, and a plain state dict brings the new ones back."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from editable.errors import UserError
from editable.models import GrownNetwork, SplitNetwork, cifar_densenet, cifar_resnet18, grow_classes, load_weights
from editable.models.split.tracing import trace_pure
from tests.warned import no_warning

LAYER = "layer4.1.conv2"


def resnet(num_classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    network = cifar_resnet18(num_classes, width=4).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    return network


class Treacherous(nn.Module):
    """A convolution that pads by itself, whose input is overwritten as soon as it has been read."""

    class SelfPadding(nn.Conv2d):
        def forward(self, x):
            return functional.conv2d(functional.pad(x, (0, 1, 0, 2)), self.weight, self.bias, self.stride)

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.second = self.SelfPadding(4, 6, 3, stride=2)
        self.plain = nn.Conv2d(4, 6, 1)
        self.twice = nn.Conv2d(6, 6, 1)
        self.unused = nn.Conv2d(6, 6, 1)
        self.grouped = nn.Conv2d(6, 6, 1, groups=2)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.first(x)
        y = self.second(x)
        z = self.plain(x)
        x.relu_().mul_(7)
        y = self.grouped(self.twice(self.twice(y)))
        return self.head(y.mean((2, 3)) + z.mean((2, 3)) + x.mean())


def densenet() -> nn.Module:
    return cifar_densenet(4, growth_rate=4, layers=(1, 1, 1, 1), width=8).eval()


@pytest.mark.parametrize(("make", "layer"), [(resnet, LAYER), (densenet, "features.conv0")])
def test_old_logits_are_bit_for_bit_what_they_were(make, layer):
    network = make()
    grown = grow_classes(network, layer, 2)
    num_old = len(network(torch.zeros(1, 3, 32, 32))[0])
    for number, scale in ((1, 1.0), (7, 100.0), (3, 0.0)):
        x = scale * torch.randn(number, 3, 32, 32)
        assert grown(x).shape == (number, num_old + 2)
        assert torch.equal(grown(x)[:, :num_old], network(x))
    with torch.no_grad():
        for parameter in grown.new_logits.parameters():
            parameter.fill_(1e3)
    assert torch.equal(grown(x)[:, :num_old], network(x))


def test_old_logits_in_training_mode_and_gradients_are_those_of_the_network_alone():
    network, alone = resnet().train(), resnet().train()
    grown = grow_classes(network, LAYER)
    x = torch.randn(4, 3, 32, 32)
    logits = grown(x)
    assert torch.equal(logits[:, :5], alone(x))
    logits[:, :5].square().sum().backward()
    alone.zero_grad()
    alone.load_state_dict(resnet().state_dict())
    alone(x).square().sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(network.parameters(), alone.parameters(), strict=True))
    assert torch.equal(network.bn1.running_mean, alone.bn1.running_mean)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_the_new_logit_reads_only_its_filter(pooling):
    network = resnet()
    grown = grow_classes(network, "layer3.0.conv1", pooling=pooling).eval()
    new = grown.new_logits[0]
    with torch.no_grad():
        new.scale.fill_(3.0)
        new.bias.fill_(-2.0)
    x = torch.randn(3, 3, 32, 32)
    read = network.layer2(network.layer1(network.relu(network.bn1(network.conv1(x)))))
    maps = functional.conv2d(read, new.filter.weight, stride=2, padding=1)[:, 0]
    pooled = maps.flatten(1).max(1).values if pooling == "max" else maps.sum((1, 2)) / 64
    torch.testing.assert_close(grown(x)[:, 5], 3 * pooled - 2)
    assert new.filter.weight.shape == (1, 8, 3, 3)
    assert new.filter.bias is None


@pytest.mark.parametrize("layer", ["layer3.0.conv1", "fc"])
def test_a_discriminant_gives_the_new_class_its_probability_and_leaves_the_old_ones_their_ratios(layer):
    network = resnet()
    grown = grow_classes(network, layer, 2, logit="discriminant").eval()
    x = torch.randn(3, 3, 32, 32)
    read = network.layer2(network.layer1(network.relu(network.bn1(network.conv1(x)))))
    if layer == "fc":
        read = network.layer4(network.layer3(read)).mean((2, 3))
    odds = []
    for number, new in enumerate(grown.new_logits):
        weight, bias = new.discriminants.weight, new.discriminants.bias
        assert weight.shape[0] == len(bias) == 1 + 5 + number
        with torch.no_grad():
            weight.normal_()
            bias.normal_()
            new.bias.fill_(0.5 - number)
        if layer == "fc":
            scores = read @ weight.T + bias
        else:
            scores = functional.conv2d(read, weight, bias, stride=2, padding=1).mean((2, 3))
        odds.append(scores[:, 0] - scores[:, 1:].exp().sum(1).log() + 0.5 - number)
    logits = grown(x)
    assert torch.equal(logits[:, :5], network(x))
    first, both = logits[:, :6].softmax(1), logits.softmax(1)
    torch.testing.assert_close(first[:, 5], odds[0].sigmoid())
    torch.testing.assert_close(both[:, 6], odds[1].sigmoid())
    torch.testing.assert_close(both[:, :5] / both[:, :1], network(x).softmax(1) / network(x).softmax(1)[:, :1])
    split = SplitNetwork(grown, ["new_logits"])
    torch.testing.assert_close(split.suffix(split.prefix(x), {}), logits)


def test_a_state_dict_is_a_plain_checkpoint(tmp_path):
    network = resnet()
    grown = grow_classes(network, LAYER, 2)
    state = grown.state_dict()
    assert {name.partition(".")[0] for name in state} == {"base", "new_logits"}
    save_file(state, tmp_path / "grown.safetensors")
    torch.save({"state_dict": state}, tmp_path / "grown.pt")
    x = torch.randn(2, 3, 32, 32)
    for name in ("grown.safetensors", "grown.pt"):
        again = grow_classes(cifar_resnet18(5, width=4).eval(), LAYER, 2)
        assert not torch.equal(again(x), grown(x))
        load_weights(again, tmp_path / name)
        assert torch.equal(again(x), grown(x))
    with pytest.raises(UserError, match="do not fit"):
        load_weights(grow_classes(cifar_resnet18(5, width=4), LAYER, 1), tmp_path / "grown.pt")


def test_weights_of_the_network_before_are_loaded_on_the_way(tmp_path):
    network = resnet()
    save_file(network.state_dict(), tmp_path / "old.safetensors")
    grown = grow_classes(cifar_resnet18(5, width=4).eval(), LAYER, weights=str(tmp_path / "old.safetensors"))
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(grown(x)[:, :5], network(x))


def test_one_class_after_another_is_several_at_once():
    network = resnet()
    first = grow_classes(network, LAYER)
    x = torch.randn(2, 3, 32, 32)
    before = first(x)
    second = grow_classes(first, "layer3.0.conv1", pooling="max")
    assert torch.equal(second(x)[:, :6], before)
    assert second.base is network
    assert second.new_logits[0] is first.new_logits[0]
    at_once = grow_classes(resnet(), [LAYER, "layer3.0.conv1"], 2)
    at_once.new_logits[1].pooling = "max"
    at_once.load_state_dict(second.state_dict())
    assert torch.equal(at_once(x), second(x))


def test_a_grown_network_is_traced_split_copied_and_pickled_like_any_other(tmp_path):
    grown = grow_classes(resnet(), LAYER, 2)
    x = torch.randn(2, 3, 32, 32)
    with no_warning():
        split = SplitNetwork(grown, ["new_logits"])
    features = split.prefix(x)
    torch.testing.assert_close(split.suffix(features, {}), grown(x), rtol=0, atol=0)
    assert max(feature[0].numel() for feature in features) == 32 * 4 * 4  # what the layer reads, and old logits
    assert torch.equal(copy.deepcopy(grown)(x), grown(x))
    torch.save(grown, tmp_path / "whole.pt")
    assert torch.equal(torch.load(tmp_path / "whole.pt", weights_only=False)(x), grown(x))
    assert not any(module._forward_pre_hooks for module in grown.modules())


@pytest.mark.parametrize("layer", ["second", "plain"])
def test_the_filter_reads_what_the_layer_reads(layer):
    """Also where the network writes into that afterwards, and where the layer pads by itself."""
    torch.manual_seed(0)
    network = Treacherous().double()
    grown = grow_classes(network, layer)
    network.twice = nn.Identity()
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    read = network.first(x)
    weight = grown.new_logits[0].filter.weight
    padded = functional.pad(read, (0, 1, 0, 2)) if layer == "second" else read
    maps = functional.conv2d(padded, weight, stride=2 if layer == "second" else 1)
    torch.testing.assert_close(grown(x)[:, 3], maps.mean((1, 2, 3)))
    assert torch.equal(grown(x)[:, :3], network(x))
    values = SplitNetwork(grown, ["head"])
    torch.testing.assert_close(values.suffix(values.prefix(x), {}), grown(x))


def test_a_traced_network_has_the_filter_in_its_graph():
    nodes = [node for node in trace_pure(grow_classes(resnet(), LAYER)).nodes if node.target == "new_logits.0.filter"]
    assert len(nodes) == 1


def test_new_filters_start_at_random_by_the_global_seed():
    def fresh(seed: int) -> GrownNetwork:
        network = resnet()
        torch.manual_seed(seed)
        return grow_classes(network, LAYER, 2)

    first, again, other = (fresh(seed).new_logits for seed in (1, 1, 2))
    assert torch.equal(first[0].filter.weight, again[0].filter.weight)
    assert not torch.equal(first[0].filter.weight, other[0].filter.weight)
    assert not torch.equal(first[0].filter.weight, first[1].filter.weight)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": "layer4.1.conv3"}, "such as layer4.1.conv.*'layer4.1.conv3', and there is none"),
        ({"layer": "fc"}, "and it is a Linear"),
        ({"layer": "layer4"}, "and it is a Sequential"),
        ({"layer": LAYER, "num_new": 0}, "num_new must be at least 1, got 0"),
        ({"layer": [LAYER], "num_new": 2}, "layer has 1 names, but must be one name, or one for each of 2"),
        ({"layer": LAYER, "pooling": "sum"}, "pooling is 'sum', but must be one of mean, max"),
        ({"layer": LAYER, "logit": "row"}, "logit is 'row', but must be one of filter, discriminant"),
        (
            {"layer": "bn1", "logit": "discriminant"},
            "a linear layer, or beside a convolution without groups, .*it is a BatchNorm",
        ),
        ({"layer": LAYER, "weights": "nowhere.pt"}, "there is no weights file at 'nowhere.pt'"),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(UserError, match=message):
        grow_classes(resnet(), **settings)


def test_layers_that_are_used_elsewhere_or_nowhere_or_in_groups():
    with pytest.raises(UserError, match="'grouped', and it has 2 groups"):
        grow_classes(Treacherous(), "grouped")
    for layer, places in (("twice", 2), ("unused", 0)):
        with pytest.raises(UserError, match=f"'{layer}' is used at {places} places"):
            grow_classes(Treacherous(), layer)(torch.randn(1, 3, 9, 9))
