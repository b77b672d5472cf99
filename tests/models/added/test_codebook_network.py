"""A codebook behind a network: what it reads, traced, split, copied, exported, saved and loaded like any network."""

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from editable.errors import UserError
from editable.models import (
    Codebook,
    CodebookNetwork,
    SplitNetwork,
    add_codebook,
    cifar_resnet,
    load_weights,
    select_parameters,
)
from tests.warned import no_warning

CLASSES = 4
LAYERS = ["layer3.0.conv1", "layer4.0.conv1", "avgpool"]


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return cifar_resnet(CLASSES, 2, (1, 1, 1, 1), 3).to(dtype).eval()


def images(number: int = 8) -> Tensor:
    return torch.randn(number, 3, 16, 16, generator=torch.Generator().manual_seed(7))


def reads(some: CodebookNetwork, x: Tensor) -> Tensor:
    """What the codebook reads, by a hook on it."""
    read: list[Tensor] = []
    handle = some.codebook.register_forward_pre_hook(lambda layer, arguments: read.append(arguments[0]))
    with torch.no_grad():
        some(x)
    handle.remove()
    return read[0]


def filled(layers: Sequence[str] | None = None, rows: int = 5, strength: float = 0.0) -> CodebookNetwork:
    """A network with a codebook that fires for some of the images, and not for others."""
    some = add_codebook(network(), layers)
    codebook, features = some.codebook, reads(some, images())
    with torch.no_grad():
        for space, part in zip(codebook.spaces, features.split(codebook.sizes, dim=1), strict=True):
            space.mean.copy_(part.mean(dim=0))
        codebook.radius.fill_(0.95)
        codebook.resize(1 + rows)
        codebook.match.weight[1:] = codebook.query(features[:rows])
        codebook.thresholds.fill_(0.999)
        codebook.values[1:] = functional.one_hot(torch.arange(rows) % CLASSES, CLASSES)
        codebook.strengths[1:] = strength
    return some


@pytest.mark.parametrize("layers", [None, "fc", LAYERS])
def test_it_goes_behind_the_logits_and_changes_none(layers):
    plain_network, some = network(), network()
    larger = add_codebook(some, layers)
    with torch.no_grad():
        assert torch.equal(larger(images()), plain_network(images()))
    assert larger.base is some
    own = [f"codebook.{part}" for part in ("match.weight", "strengths", "thresholds", "values")]
    assert sorted(select_parameters(larger, "codebook")) == own
    names = [f"base.{name}" for name, _ in plain_network.named_parameters()]
    assert [name for name, _ in larger.named_parameters() if name not in own] == names
    assert not any(module.training for module in larger.modules())
    assert not any(module._forward_pre_hooks for module in larger.modules())


def test_what_it_reads_of_maps_is_mean_and_deviation_over_positions_and_of_vectors_themselves():
    some, x = network(torch.float64), images().double()
    with torch.no_grad():
        map2 = some.layer2(some.layer1(some.relu(some.bn1(some.conv1(x)))))
        map3 = some.layer3(map2)
        map4 = some.layer4(map3)
    expected = []
    for values in (map2, map3, map4):
        flat = values.flatten(2)
        mean = flat.sum(dim=2) / flat.shape[2]
        expected += [mean, ((flat - mean[:, :, None]) ** 2).mean(dim=2).sqrt()]
    vector = map4.mean(dim=(2, 3))
    read = reads(add_codebook(some, [*LAYERS, "fc"]), x)
    torch.testing.assert_close(read, torch.cat([*expected, vector], dim=1), rtol=1e-9, atol=1e-6)
    assert torch.equal(reads(add_codebook(network(torch.float64)), x), vector)


class Tokens(nn.Module):
    """Images [N, 3, 6, 6] to 9 tokens of 5 values."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 5, 2, 2)
        self.norm = nn.LayerNorm(5)
        self.squares = nn.Linear(5, 5)
        self.body = nn.Linear(5, 7)
        self.head = nn.Linear(7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.patches(x).permute(0, 2, 3, 1))
        return self.head(self.body(self.squares(x).flatten(1, 2)).mean(dim=1))


def test_of_tokens_it_reads_mean_and_deviation_over_tokens():
    torch.manual_seed(0)
    some, x = Tokens().eval(), torch.randn(4, 3, 6, 6)
    with torch.no_grad():
        square = some.patches(x).permute(0, 2, 3, 1)
        tokens = some.squares(some.norm(square)).flatten(1, 2)
    expected = [square.mean(dim=(1, 2)), square.flatten(1, 2).std(dim=1, correction=0)]
    expected += [tokens.mean(dim=1), tokens.std(dim=1, correction=0)]
    read = reads(add_codebook(some, ["norm", "body"]), x)
    torch.testing.assert_close(read, torch.cat(expected, dim=1), rtol=1e-5, atol=1e-5)


def test_layers_of_a_network_that_takes_one_size_alone():
    """Whatever comes behind the layers does not matter; nor that no usual size is its own."""
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(5 * 7 * 7, CLASSES)]
    some = nn.Sequential(*layers).eval()
    x = images()[:, :, :11, :11]
    larger = add_codebook(some, ["2", "4"])
    assert larger.codebook.sizes == [8, 245]
    assert torch.equal(larger(x), some(x))


def test_precision_is_the_networks():
    some = add_codebook(network(torch.float64), LAYERS)
    assert {tensor.dtype for tensor in some.codebook.state_dict().values()} == {torch.float64}


@pytest.mark.parametrize(("layers", "strength"), [(None, 0.0), (LAYERS, 0.0), (LAYERS, 0.7)])
def test_traced_split_copied_pickled_and_exported(layers, strength, tmp_path: Path):
    some, x = filled(layers, strength=strength), images()
    with torch.no_grad():
        expected, before = some(x), network()(x)
        fired = (expected != before).any(dim=1)
        assert torch.equal(fired | some.codebook.fires(reads(some, x)), some.codebook.fires(reads(some, x)))
        assert fired.any()
        assert not fired.all()
        with no_warning():
            split = SplitNetwork(some, "codebook")
        features = split.prefix(x)
        assert torch.equal(split.suffix(features, split.params), expected)
        sizes = sorted(feature.shape[1:].numel() for feature in features)
        assert sizes == sorted([CLASSES, sum(some.codebook.sizes)]), "logits and the query: all but the rows is done"
        assert torch.equal(copy.deepcopy(some)(x), expected)
        torch.save(some, tmp_path / "whole.pt")
        assert torch.equal(torch.load(tmp_path / "whole.pt", weights_only=False)(x), expected)
        exported = torch.export.export(some, (x,)).module()
        torch.testing.assert_close(exported(x), expected, rtol=1e-5, atol=1e-6)


def test_gradients_are_finite_also_where_a_map_is_constant():
    some = filled(LAYERS, strength=0.7)
    with torch.no_grad():
        some.codebook.radius.fill_(0.0)
    x = torch.zeros(2, 3, 16, 16, requires_grad=True)
    some(x).square().sum().backward()
    assert all(param.grad.isfinite().all() for param in some.parameters() if param.grad is not None)
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("layers", [None, LAYERS])
def test_a_state_with_rows_loads(layers, tmp_path: Path):
    some = filled(layers, strength=0.7)
    other = add_codebook(network(), layers)
    other.load_state_dict(some.state_dict())
    assert len(other.codebook.thresholds) == 6
    with torch.no_grad():
        assert torch.equal(other(images()), some(images()))
    other.load_state_dict(add_codebook(network(), layers).state_dict())
    assert len(other.codebook.thresholds) == 1
    with torch.no_grad():
        assert torch.equal(other(images()), network()(images())), "and one without rows takes them away"
    save_file({name: tensor.contiguous() for name, tensor in some.state_dict().items()}, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")
    with torch.no_grad():
        assert torch.equal(other(images()), some(images()))
    with pytest.raises(UserError, match="do not fit CodebookNetwork"):
        load_weights(add_codebook(network(), "layer3.0.conv1"), tmp_path / "w.safetensors")


def test_weights_of_the_network_before_are_loaded_on_the_way(tmp_path: Path):
    source = network()
    save_file(source.state_dict(), tmp_path / "old.safetensors")
    torch.manual_seed(1)
    other = cifar_resnet(CLASSES, 2, (1, 1, 1, 1), 3).eval()
    with torch.no_grad():
        grown = add_codebook(other, LAYERS, weights=str(tmp_path / "old.safetensors"))
        assert torch.equal(grown(images()), source(images()))


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.twice = nn.Linear(4, 4)
        self.unused = nn.Linear(3, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.twice(self.twice(self.body(x) if x.sum() > 0 else self.body(-x))))


def test_why_a_network_cannot_be_traced_with_a_codebook():
    grown = add_codebook(Untraceable(), "head").eval()
    with pytest.warns(
        UserWarning, match=r"'head', whose input the codebook reads, lies in Untraceable, which cannot be"
    ):
        split = SplitNetwork(grown, "codebook")
    x = torch.ones(2, 3)
    assert torch.equal(split.suffix(split.prefix(x), split.params), grown(x))


def test_mistakes():
    with pytest.raises(UserError, match="CodebookNetwork has a codebook already: one is enough"):
        add_codebook(add_codebook(network()))
    with pytest.raises(UserError, match=r"such as layer4.*, but CifarResNet has no 'layer44'"):
        add_codebook(network(), ["fc", "layer44"])
    for layers in ([], ["fc", "fc"]):
        with pytest.raises(UserError, match=r"layers names the layers whose input is read, each once, such as \[fc\]"):
            add_codebook(network(), layers)
    with pytest.raises(UserError, match=r"the last layer of SqueezeNet, 'classifier.1', is a Conv2d"):
        add_codebook(models.squeezenet1_1(num_classes=3))
    with pytest.raises(UserError, match=r"which torch.fx cannot trace: give its name, its last linear layer is 'head'"):
        add_codebook(Untraceable())
    assert isinstance(add_codebook(Untraceable(), "head").codebook, Codebook)
    with pytest.raises(UserError, match=r"'twice' is used at 2 places in a forward pass of Untraceable: the codebook"):
        add_codebook(Untraceable(), "twice")(torch.ones(2, 3))
    with pytest.raises(UserError, match="cannot find out what goes into unused: Untraceable does not come to them"):
        add_codebook(Untraceable(), "unused")
    with pytest.raises(UserError, match="margin must be positive, got 0"):
        add_codebook(network(), margin=0)
