"""The extra layer: the identity at first, in front of whatever classifier, chosen by its name, loaded with weights."""

from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models
from torchvision.models.vision_transformer import VisionTransformer

from editable.errors import UserError
from editable.models import ExtraLayer, SplitNetwork, add_extra_layer, cifar_resnet18, load_weights, select_parameters

OWN = ("expand.weight", "expand.bias", "contract.weight", "contract.bias")


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "cifar_resnet18":
        return cifar_resnet18(width=4).eval()
    if name == "vit":
        return VisionTransformer(32, 16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=5).eval()
    return models.get_model(name, num_classes=7).eval()


def images(size: int = 32) -> Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


class HeadFirst(nn.Module):
    """Registers its classifier before the layers that it follows."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.body = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)).log_softmax(dim=1)


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x) if x.sum() > 0 else self.body(-x))


def test_formula() -> None:
    torch.manual_seed(0)
    layer, x = ExtraLayer(5, 7), torch.randn(4, 5)
    assert torch.equal(layer(x), x)
    nn.init.normal_(layer.contract.weight)
    nn.init.normal_(layer.contract.bias)
    hidden = x @ layer.expand.weight.T + layer.expand.bias
    hidden = torch.where(hidden > 0, hidden, hidden.exp() - 1)
    expected = x + hidden @ layer.contract.weight.T + layer.contract.bias
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(
    ("name", "classifier"),
    [
        ("cifar_resnet18", "fc"),
        ("resnet18", "fc"),
        ("densenet121", "classifier"),
        ("mobilenet_v3_small", "classifier.3"),
        ("efficientnet_b0", "classifier.1"),
        ("vit", "heads.head"),
    ],
)
def test_finds_the_classifier_and_changes_no_logit(name: str, classifier: str) -> None:
    network = build(name)
    with torch.no_grad():
        before = network(images())
        assert add_extra_layer(network) is network
        assert torch.equal(network(images()), before)
    assert list(select_parameters(network, "extra_layer")) == [f"{classifier}.extra_layer.{own}" for own in OWN]
    assert not any(module.training for module in network.modules())


def test_classifier_is_the_last_to_run_not_the_last_to_be_registered() -> None:
    network = add_extra_layer(HeadFirst())
    assert list(select_parameters(network, "extra_layer")) == [f"head.extra_layer.{own}" for own in OWN]


def test_lengths() -> None:
    assert add_extra_layer(cifar_resnet18()).fc.extra_layer.expand.weight.shape == (4096, 512)
    assert add_extra_layer(build("cifar_resnet18"), hidden=3).fc.extra_layer.contract.weight.shape == (32, 3)


@pytest.mark.parametrize(("name", "length"), [("cifar_resnet18", 32), ("resnet18", 512), ("densenet121", 1024)])
def test_an_edit_of_it_starts_from_the_pooled_vector(name: str, length: int) -> None:
    network = add_extra_layer(build(name), hidden=6)
    split = SplitNetwork(network, "extra_layer")
    features = split.prefix(images())
    assert [feature.shape for feature in features] == [(3, length)]
    params = {key: torch.randn_like(param) / 10 for key, param in split.params.items()}
    pooled = functional.elu(features[0] @ params[split.names[0]].T + params[split.names[1]])
    pooled = features[0] + pooled @ params[split.names[2]].T + params[split.names[3]]
    place = split.names[0].removesuffix("extra_layer.expand.weight")
    torch.testing.assert_close(split.suffix(features, params), network.get_submodule(f"{place}classifier")(pooled))


def test_precision_is_the_networks() -> None:
    network = add_extra_layer(build("cifar_resnet18").double())
    assert {param.dtype for param in network.parameters()} == {torch.float64}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_old_weights_load_before_the_layer_is_added_and_new_ones_after(suffix: str, tmp_path: Path) -> None:
    old, save = build("cifar_resnet18"), save_file if suffix == ".safetensors" else torch.save
    save(old.state_dict(), tmp_path / f"old{suffix}")
    network = add_extra_layer(cifar_resnet18(width=4).eval(), weights=str(tmp_path / f"old{suffix}"))
    with torch.no_grad():
        assert torch.equal(network(images()), old(images()))
        nn.init.normal_(network.fc.extra_layer.contract.weight)
        save(network.state_dict(), tmp_path / f"new{suffix}")
        again = add_extra_layer(cifar_resnet18(width=4).eval())
        load_weights(again, tmp_path / f"new{suffix}")
        assert torch.equal(again(images()), network(images()))
    with pytest.raises(UserError, match=r"do not fit CifarResNet: 6 missing .* 2 unexpected"):
        load_weights(again, tmp_path / f"old{suffix}")


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (lambda: models.squeezenet1_1(num_classes=2), {}, r"'classifier.1', is a Conv2d: it has no linear layer"),
        (nn.Identity, {}, "Identity is not made of layers"),
        (HeadFirst, {"name": "fc"}, "'fc' of HeadFirst is not there: its last linear layer is 'body'"),
        (HeadFirst, {"name": ""}, "'' of HeadFirst is not there"),
        (lambda: build("cifar_resnet18"), {"name": "layer4"}, "'layer4' of CifarResNet is a Sequential: .* 'fc'"),
        (HeadFirst, {"hidden": 0}, "hidden must be at least 1, got 0"),
        (lambda: add_extra_layer(HeadFirst()), {}, "has an extra layer already, 'head.extra_layer'"),
        (Untraceable, {}, "Untraceable, which torch.fx cannot trace: give its name, its last linear layer is 'head'"),
        (HeadFirst, {"weights": "nowhere.pt"}, "no weights file at 'nowhere.pt'"),
    ],
)
def test_mistakes(make, arguments: dict, message: str) -> None:
    network = make()
    names = [name for name, _ in network.named_modules()]
    with pytest.raises(UserError, match=message):
        add_extra_layer(network, **arguments)
    assert [name for name, _ in network.named_modules()] == names


def test_untraceable_network_by_name() -> None:
    assert isinstance(add_extra_layer(Untraceable(), name="head").head.extra_layer, ExtraLayer)


@pytest.mark.filterwarnings(r"ignore:\s*(By default only one|``instantiate_classes``)")
def test_named_in_yaml() -> None:
    parser = ArgumentParser()
    parser.add_argument("--network", type=nn.Module)
    inner = "class_path: editable.models.cifar_resnet18, init_args: {width: 4, num_classes: 7}"
    config = parser.parse_string(
        f"network: {{class_path: editable.models.add_extra_layer, init_args: {{hidden: 5, network: {{{inner}}}}}}}"
    )
    network = parser.instantiate(config).network
    assert network.fc.extra_layer.expand.weight.shape == (5, 32)
    assert network.fc.classifier.weight.shape == (7, 32)
