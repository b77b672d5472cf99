"""A network as what it is for edits of its last layer: all before it, and that layer under its own name."""

import pytest
import torch
from torch import nn

from editable.errors import UserError
from editable.models import SplitNetwork
from editable.models.split.whole_layer import WholeLayer


class Net(nn.Module):
    """A last layer inside another module, behind BatchNorm and dropout; its logits come in a dict."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout())
        self.head = nn.ModuleDict({"fc": nn.Linear(6, 3)})

    def forward(self, x):
        return {"logits": self.head["fc"](self.body(x))}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Net()


def test_the_last_layer_is_all_that_is_seen(network):
    whole = WholeLayer(network, "head")
    assert [name for name, _ in whole.named_parameters()] == ["head.fc.weight", "head.fc.bias"]
    assert not list(whole.buffers())
    own = network.head["fc"].weight
    assert torch.equal(whole.get_parameter("head.fc.weight"), own)
    assert whole.get_parameter("head.fc.weight").data_ptr() != own.data_ptr()


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_it_splits_before_the_last_layer(network, mode):
    getattr(network, mode)()
    x = torch.randn(5, 4)
    split = SplitNetwork(WholeLayer(network, ["fc"]), ["fc"])
    (read,) = split.prefix(x)
    assert read.shape == (5, 6)
    weight = torch.randn(3, 6)
    edited = split.suffix((read,), {"head.fc.weight": weight})
    assert network.training == (mode == "train")
    assert not network.head["fc"]._forward_hooks
    network.eval()
    assert torch.equal(split.suffix((read,), split.params), network(x)["logits"])
    assert torch.equal(edited, nn.functional.linear(network.body(x), weight, network.head["fc"].bias))


@pytest.mark.parametrize("layers", ["body.0", "body", "all", ["fc", "body.1"]])
def test_another_layer_than_the_last_is_refused(network, layers):
    with pytest.raises(
        UserError, match=r"edits may change the linear layer alone that gives the logits, which 'body\.\d"
    ):
        WholeLayer(network, layers)(torch.randn(2, 4))
