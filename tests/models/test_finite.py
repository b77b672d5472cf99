"""Weights that are NaN, infinite, or no floating-point numbers are named before figures are made of them."""

import math

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import nn

from editable.data import DigitsDataModule
from editable.errors import UserError
from editable.models import SplitNetwork, check_weights, cifar_resnet
from editable.tasks import ClassificationTask
from tests.conftest import MakeTrainer

BAD = [math.nan, math.inf, -math.inf]


def small() -> nn.Module:
    return cifar_resnet(10, 2, (1, 1, 1, 1), 1)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", ["conv1.weight", "layer3.0.bn2.bias", "fc.bias"])
def test_a_parameter_with_one_such_value(name: str, value: float):
    network = small()
    with torch.no_grad():
        network.get_parameter(name).view(-1)[1] = value
    with pytest.raises(UserError, match=rf"^'{name}' of CifarResNet has 1 values of \d+ that are NaN or infinite"):
        check_weights(network)
    with pytest.raises(UserError, match=f"^'{name}'"):
        SplitNetwork(network, "layer4")


def test_running_statistics():
    network = small()
    network.bn1.running_var[0] = math.nan
    with pytest.raises(UserError, match=r"^'bn1\.running_var' "):
        check_weights(network)


def test_a_mask_of_attention_may_be_infinite():
    network = nn.Linear(2, 2)
    network.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    check_weights(network)
    network.register_buffer("count", torch.tensor(3))
    check_weights(network)
    check_weights(nn.Identity())
    check_weights(nn.LazyLinear(3))
    check_weights(nn.Linear(2, 3, device="meta"))


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool])
def test_whole_numbers_are_not_edited(dtype: torch.dtype):
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].weight = nn.Parameter(torch.ones(2, 2, dtype=dtype), requires_grad=False)
    with pytest.raises(UserError, match=rf"'0\.weight' holds {dtype} and cannot be edited"):
        SplitNetwork(network, "0")
    check_weights(network)
    check_weights(network, ["1.weight"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_largest_number_of_a_type_is_a_number(dtype: torch.dtype):
    network = nn.Linear(4, 4).to(dtype)
    with torch.no_grad():
        network.weight.fill_(torch.finfo(dtype).max)
    check_weights(network)


@pytest.mark.parametrize("loop", ["test", "predict"])
def test_figures_are_not_made_of_them(make_trainer: MakeTrainer, loop: str):
    network = small()
    with torch.no_grad():
        network.fc.weight.fill_(math.nan)
    data: LightningDataModule = DigitsDataModule()
    with pytest.raises(UserError, match=r"'fc\.weight' .* has 160 values of 160 that are NaN or infinite"):
        getattr(make_trainer(), loop)(ClassificationTask(network), datamodule=data)
