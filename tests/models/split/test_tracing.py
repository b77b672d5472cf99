"""Graphs of pure operations: what is rewritten, what is left alone, and what is refused. See test_split_network.py."""

import operator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torchvision import models

from editable.errors import UserError
from editable.models import SplitNetwork
from editable.models.added.classifier import find_classifier
from editable.models.split.tracing import UntraceableError, find_plain_values, trace_pure

IN_PLACE = (operator.iadd, operator.imul, torch.relu_)


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_small", "densenet121", "squeezenet1_1", "shufflenet_v2_x0_5"]
)
def test_usual_networks_need_no_clones(name: str) -> None:
    targets = {node.target for node in trace_pure(models.get_model(name).eval()).nodes}
    assert "clone" not in targets
    assert targets.isdisjoint(IN_PLACE)


class Shapes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n, c = x.shape[0], x.size(1)
        n *= 2
        return x.view(-1, c * 1).new_zeros(n, c).to(x.dtype).T.reshape(x.shape.numel() * 2, -1)


def test_plain_values_are_told_from_tensors() -> None:
    graph = trace_pure(Shapes())
    plain = find_plain_values(graph)
    tensors = [node.target for node in graph.nodes if node not in plain]
    assert tensors == ["x", "view", "new_zeros", "to", getattr, "reshape", "output"]
    assert operator.imul not in {node.target for node in plain}


class Calls(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def test_writing_into_an_out_argument_is_refused() -> None:
    with pytest.raises(UntraceableError, match="'out'"):
        trace_pure(Calls(lambda x: torch.add(x, 1, out=x)))


class Branching(nn.Module):
    """Its way depends on the data, and it writes into its input: it cannot be traced."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x += 1
        return self.linear(x if x.mean() > 1 else -x)


class Parts(nn.Module):
    """A body and a neck that cannot be traced, and layers that can."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.middle, self.neck, self.head = (
            Branching(4, 5),
            nn.Linear(5, 5),
            Branching(5, 6),
            nn.Linear(6, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.neck(self.middle(self.body(x.clone()).relu())))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("layer", "width"), [("head", 6), ("middle", 5)])
def test_what_cannot_be_traced_and_is_not_edited_is_called_as_a_whole(layer: str, width: int) -> None:
    """Before and behind the cut; whatever it writes into, features and inputs stay, also when they are used again."""
    network = Parts().eval()
    split = SplitNetwork(network, [layer])
    for shift in (-3.0, 3.0):  # either way of its branches
        x = torch.randn(7, 4) + shift
        given = x.clone()
        features = split.prefix(x)
        assert [tuple(feature.shape) for feature in features] == [(7, width)]
        kept = [feature.clone() for feature in features]
        for _ in range(2):
            assert torch.equal(split.suffix(features, split.params), network(given))
        assert torch.equal(x, given)
        assert all(torch.equal(feature, before) for feature, before in zip(features, kept, strict=True))
    changed = {name: param.detach() + 1 for name, param in split.params.items()}
    by_hand = Parts().eval()
    by_hand.load_state_dict(network.state_dict() | changed)
    assert torch.equal(split.suffix(features, changed), by_hand(given))
    gradient = torch.autograd.grad(split.suffix(features, split.params).sum(), list(split.params.values()))
    expected = torch.autograd.grad(network(given).sum(), [network.get_parameter(name) for name in split.names])
    for one, other in zip(gradient, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_what_is_edited_has_to_be_traced() -> None:
    network = Parts().eval()
    with pytest.warns(UserWarning, match="cannot be traced by torch.fx"):
        split = SplitNetwork(network, ["body"])
    x = torch.randn(7, 4)
    assert torch.equal(split.prefix(x)[0], x)
    with pytest.raises(fx.proxy.TraceError):
        trace_pure(network, ["neck.linear.weight"])


def test_the_classifier_behind_a_body_that_cannot_be_traced_is_found() -> None:
    assert find_classifier(Parts(), "an editor")[0] == "head"


class Named(nn.Linear):
    """Somebody's own linear layer, which computes what torch's does."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)


class Cosine(Named):
    """Computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight / self.weight.norm(dim=1, keepdim=True))


class Standardised(nn.Conv2d):
    """Computes something else, though by torch's forward."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight - weight.mean(), bias)


def test_layers_of_ones_own_are_torchs_where_they_compute_the_same() -> None:
    network = nn.Sequential(Named(4, 4), nn.ReLU(), Named(4, 3)).eval()
    assert [str(node.target) for node in trace_pure(network).nodes if node.op == "call_module"] == ["0", "1", "2"]
    assert find_classifier(network, "an editor")[0] == "2"
    other = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Cosine(4, 3)).eval()
    with pytest.raises(
        UserError, match=r"goes with a linear layer, but the last layer of Sequential, '2', is a Cosine"
    ):
        find_classifier(other, "an editor")
    convolution = nn.Sequential(Standardised(1, 2, 1), nn.Flatten()).eval()
    assert [str(node.target) for node in trace_pure(convolution).nodes if node.op == "call_module"] == ["1"]
    x = torch.randn(5, 1, 2, 2)
    split = SplitNetwork(convolution, "0")
    assert torch.equal(split.suffix(split.prefix(x), split.params), convolution(x))


def small(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), Named(4, 4)), nn.Linear(4, 2)).eval()


def test_another_thread_runs_a_network_while_one_is_traced() -> None:
    """torch.fx takes hold of the calls of all modules, whoever calls them."""
    traced, run, x = small(0), small(1), torch.randn(5, 3)
    expected, seen, done = run(x), [], Event()

    def look() -> None:
        while not done.is_set():
            seen.append(torch.equal(run(x), expected))

    with ThreadPoolExecutor(1) as other:
        looking = other.submit(look)
        for _ in range(100):
            found = [str(node.target) for node in trace_pure(traced).nodes]
            assert found == ["x", "0", "1.0", "1.1", "2", "output"]
        done.set()
        looking.result()
    assert all(seen)


def test_two_threads_trace() -> None:
    """Each gets its own graph, and in the end modules are called as they were."""
    networks, x, call = [small(0), small(1)], torch.randn(5, 3), nn.Module.__call__
    expected = [network(x) for network in networks]
    with ThreadPoolExecutor(2) as both:
        graphs = list(both.map(lambda number: trace_pure(networks[number % 2]), range(100)))
    assert nn.Module.__call__ is call
    for number, graph in enumerate(graphs):
        assert torch.equal(fx.GraphModule(networks[number % 2], graph)(x), expected[number % 2])


def test_constants_are_refused_and_not_stored() -> None:
    network = Calls(lambda x: x + torch.ones(3))
    attributes = dict(vars(network))
    with pytest.raises(UntraceableError, match=r"tensor of shape \[3\].*register it as a buffer"):
        trace_pure(network)
    assert vars(network) == attributes
