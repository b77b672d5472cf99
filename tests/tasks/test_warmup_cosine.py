"""The schedule is torch's two, one behind the other, and refuses what it cannot be."""

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from editable.errors import UserError
from editable.tasks import WarmupCosine


def rates(make, length):
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = SGD([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 3.0}], lr=0.5)
    scheduler, found = make(optimizer), []
    for _ in range(length):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.filterwarnings("ignore:The epoch parameter")  # of torch's own
@pytest.mark.parametrize(("length", "warmup", "start"), [(12, 4, 0.01), (7, 1, 0.5), (5, 0, 1.0)])
def test_it_is_torchs_warm_up_and_then_its_cosine(length, warmup, start):
    def torchs(optimizer):
        cosine = CosineAnnealingLR(optimizer, length - warmup)
        if not warmup:
            return cosine
        warm = LinearLR(optimizer, start, total_iters=warmup)
        return SequentialLR(optimizer, [warm, cosine], [warmup])

    ours = rates(lambda optimizer: WarmupCosine(optimizer, length, warmup, start), length)
    torch.testing.assert_close(ours, rates(torchs, length), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ({"length": 0}, "length must be at least 1, got 0"),
        ({"length": 5, "warmup": -1}, "warmup must be at least 0, got -1"),
        ({"length": 5, "warmup": 5}, "warmup is 5, but must be less than length, which is 5"),
        ({"length": 5, "start": 0.0}, r"start must be in \(0, 1\], got 0"),
    ],
)
def test_what_it_cannot_be(numbers, sentence):
    with pytest.raises(UserError, match=sentence):
        WarmupCosine(SGD([nn.Parameter(torch.zeros(1))], lr=1.0), **numbers)
