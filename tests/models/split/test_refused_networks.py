"""Networks that cannot be edited as they are, refused in one sentence: scripted ones, and quantised behind the edit."""

import pytest
import torch
from torch import Tensor, nn

from editable.errors import UserError
from editable.models import SplitNetwork, select_parameters
from tests.warned import JIT, QUANTISATION


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).relu())


pytestmark = pytest.mark.filterwarnings(JIT, QUANTISATION)


@pytest.mark.parametrize("made", ["script", "trace"])
def test_scripted_networks(made: str):
    network = torch.jit.script(Small()) if made == "script" else torch.jit.trace(Small(), torch.zeros(1, 4))
    with pytest.raises(UserError, match=r"cannot split a scripted network .*: give the original network"):
        SplitNetwork(network, "head")


def test_scripted_parts_stay_but_are_not_edited():
    network = nn.Sequential(torch.jit.script(Small()), nn.Linear(3, 3))
    with pytest.raises(UserError, match=r"'0.head.weight' cannot be edited, as '0' is scripted"):
        SplitNetwork(network, "0.head")
    split, x = SplitNetwork(network, "1"), torch.randn(2, 4)
    assert torch.equal(split.suffix(split.prefix(x), {}), network(x))


def test_quantised_layers():
    network = Small()
    network.head = torch.ao.quantization.quantize_dynamic(nn.Sequential(network.head), {nn.Linear})[0]
    with pytest.raises(UserError, match=r"'head' of Small is quantised and has no parameters"):
        select_parameters(network, "head")
    split = SplitNetwork(network, "first")  # may be rewritten by a closed form, which needs no gradient
    with pytest.raises(UserError, match=r"no gradient reaches 'first.weight', as 'head' behind it is quantised"):
        split.require_gradients()


def test_quantised_layers_before_the_edit():
    network = Small()
    network.first = torch.ao.quantization.quantize_dynamic(nn.Sequential(network.first), {nn.Linear})[0]
    split = SplitNetwork(network, "head")
    split.require_gradients()
    assert all(name.startswith("head.") for name in split.names)


def test_layers_without_parameters():
    with pytest.raises(UserError, match=r"'1' of Sequential is a ReLU and has no parameters"):
        select_parameters(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "1")
