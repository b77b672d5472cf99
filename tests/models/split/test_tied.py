"""A split network treats a tensor under several names as one, whichever of them is asked for."""

import pytest
import torch
from torch import Tensor, nn

from editable.models import SplitNetwork


class Tied(nn.Module):
    """Two layers of one weight, by one parameter or by two that share their memory."""

    def __init__(self, by_memory: bool) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        if by_memory:
            self.last.weight.data = self.middle.weight.data
        else:
            self.last.weight = self.middle.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x).relu()).relu())


@pytest.mark.parametrize("by_memory", [False, True])
@pytest.mark.parametrize("pattern", ["middle", "last", ["middle", "last"]])
def test_all_places_change_together(by_memory: bool, pattern: str | list[str]):
    torch.manual_seed(0)
    network, x, value = Tied(by_memory), torch.randn(4, 3), torch.randn(3, 3)
    split = SplitNetwork(network, pattern)
    weights = [name for name in split.params if name.endswith("weight")]
    assert len(weights) == 1
    network_of_value = Tied(by_memory)
    network_of_value.load_state_dict(network.state_dict() | {"middle.weight": value, "last.weight": value})
    expected = network_of_value(x)
    for name in ("middle.weight", "last.weight"):
        assert torch.equal(split.suffix(split.prefix(x), {name: value}), expected)
    assert torch.equal(split.suffix(split.prefix(x), {}), network(x))
