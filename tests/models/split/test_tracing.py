"""Graphs of pure operations: what is rewritten, what is left alone, and what is refused. See test_split_network.py."""

import operator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

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


def test_constants_are_refused_and_not_stored() -> None:
    network = Calls(lambda x: x + torch.ones(3))
    attributes = dict(vars(network))
    with pytest.raises(UntraceableError, match=r"tensor of shape \[3\].*register it as a buffer"):
        trace_pure(network)
    assert vars(network) == attributes
