"""Predictions of rewritten networks on several sets, against a plain forward pass."""

from contextlib import closing

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.data import TensorDataset

from editable.callbacks.site.predictions import RewrittenPredictions


def make_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 5)
    ).eval()


def test_predictions_are_those_of_a_plain_forward_pass():
    network = make_network()
    images = {"some": torch.randn(7, 3, 6, 6), "others": torch.randn(4, 3, 6, 6)}
    labels = {name: torch.arange(len(some)) % 5 for name, some in images.items()}
    params = {"3.weight": network[3].weight.detach() + torch.randn(4, 4, 3, 3)}
    sets = {name: TensorDataset(some, labels[name]) for name, some in images.items()}
    done: list[int] = []
    with closing(RewrittenPredictions(network, params, sets, 3, 10**6, done.append)) as predictions:
        assert sum(done) == 11
        found, unedited = predictions(params), predictions.unedited
    for name, some in images.items():
        assert torch.equal(predictions.labels[name], labels[name])
        assert torch.equal(unedited[name], network(some).argmax(1))
        assert torch.equal(found[name], functional_call(network, params, (some,)).argmax(1))
    assert any(not torch.equal(found[name], unedited[name]) for name in images)
