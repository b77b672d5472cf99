"""Parameters are chosen by name patterns, in the network's order, and a slip is answered with near names."""

import pytest
from torch import nn
from torchvision.models import resnet18

from editable.errors import UserError
from editable.models import select_parameters


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return resnet18()


def names_starting(network: nn.Module, *prefixes: str) -> list[str]:
    return [name for name, _ in network.named_parameters() if name.startswith(prefixes)]


@pytest.mark.parametrize(
    ("patterns", "prefixes"),
    [
        ("all", ("",)),
        ("layer3", ("layer3.",)),
        ("layer4.1.*", ("layer4.1.",)),
        ("layer?.0", ("layer1.0.", "layer2.0.", "layer3.0.", "layer4.0.")),
        ("fc.weight", ("fc.weight",)),
        (["fc", "conv1", "fc.bias"], ("conv1.", "fc.")),
        ("layer[12].1.bn2", ("layer1.1.bn2.", "layer2.1.bn2.")),
    ],
)
def test_pattern_selects_by_name(network: nn.Module, patterns: str | list[str], prefixes: tuple[str, ...]) -> None:
    selected = select_parameters(network, patterns)
    assert list(selected) == names_starting(network, *prefixes)
    assert all(selected[name] is network.get_parameter(name) for name in selected)


def test_module_name_is_no_prefix_of_longer_names() -> None:
    network = nn.ModuleDict({"layer1": nn.Linear(1, 1), "layer10": nn.Linear(1, 1)})
    assert list(select_parameters(network, "layer1")) == ["layer1.weight", "layer1.bias"]


def test_end_of_a_name_that_only_one_module_has(network: nn.Module) -> None:
    wrapped = nn.ModuleDict({"backbone": network})
    assert list(select_parameters(wrapped, "layer3")) == [
        f"backbone.{name}" for name in names_starting(network, "layer3.")
    ]
    with pytest.raises(UserError, match="no parameter of ModuleDict matches 'conv2'"):
        select_parameters(wrapped, "conv2")


def test_tied_parameter_is_found_under_each_name() -> None:
    network = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    network["b"].weight = network["a"].weight
    assert list(select_parameters(network, "b")) == ["a.weight"]


def test_unknown_pattern_lists_near_names(network: nn.Module) -> None:
    with pytest.raises(UserError, match=r"ResNet matches 'layr3': near names are layer3"):
        select_parameters(network, ["fc", "layr3"])


def test_pattern_far_from_all_names_lists_top_level(network: nn.Module) -> None:
    with pytest.raises(UserError, match=r"'zzzzzz'.*conv1, bn1, layer1, layer2, layer3, layer4, fc"):
        select_parameters(network, "zzzzzz")


@pytest.mark.parametrize("patterns", [[], ()])
def test_no_pattern_is_an_error(network: nn.Module, patterns: list[str]) -> None:
    with pytest.raises(UserError, match="name at least one"):
        select_parameters(network, patterns)


def test_network_without_parameters() -> None:
    with pytest.raises(UserError, match="it has no parameters"):
        select_parameters(nn.Identity(), "all")
