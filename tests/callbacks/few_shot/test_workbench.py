"""What is kept of rules, where the images that choose tell less than those that chose nothing."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from editable.callbacks.few_shot.lots import Lot
from editable.callbacks.few_shot.ways import Way
from editable.callbacks.few_shot.workbench import Workbench


class Given(Way):
    """Makes one and the same rule."""

    label, names = "given", ("1.weight",)

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight

    def __call__(self, makers, unseen):
        return {"1.weight": self.weight}


def images_of(entry: int, label: int, number: int) -> TensorDataset:
    """Images with one bright pixel."""
    images = torch.zeros(number, 1, 1, 3)
    images[..., entry] = 1.0
    return TensorDataset(images, torch.full((number,), label))


@pytest.mark.parametrize("harmed", ["choose", "report", None])
def test_a_rule_that_costs_too_much_anywhere_is_not_kept(harmed: str | None):
    """The network takes all for class 0; the rule takes photographs, and one kind of other images, for class 1."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    rule = network[1].weight.detach().clone()
    rule[1, 0] = 2.0
    if harmed:
        rule[1, ["choose", "report"].index(harmed) + 1] = 2.0
    others = {"choose": images_of(1, 0, 4), "report": images_of(2, 0, 5)}
    photographs = images_of(0, 1, 3)
    bench = Workbench(network, Given(rule), photographs, others, [1.0], 0.0025, batch_size=2, memory_budget=10**6)
    kept = bench.keep(Lot.whole(photographs.tensors[1]))
    bench.close()
    if harmed:
        assert kept is None
        return
    assert kept is not None
    assert (*kept[0].makers, *kept[0].others, kept[0].broken) == (3, 3, 0, 5, 0, 0, 0)
    assert torch.equal(kept[1]["1.weight"], rule)
