"""A linear layer as a matrix: keys and the logits' derivatives are autograd's, and what is no such layer is told."""

import copy
import re

import pytest
import torch
from torch import Tensor, nn

from editable.editing.linear.linear_layer import LinearLayer
from editable.errors import UserError
from editable.models import SplitNetwork
from tests.editing.linear.small import CLASSES, features_of, moment_of, site_of, small_network, vectors, with_one

PLACES = [("fc", False), ("hidden", False), ("fc.extra_layer.contract", True), ("fc.classifier", True)]


class Tokens(nn.Module):
    """Its layer reads three vectors of each input; with ``twice``, one, and that two times."""

    def __init__(self, twice: bool = False) -> None:
        super().__init__()
        self.layer, self.twice = nn.Linear(5, 5), twice

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x)) if self.twice else self.layer(x[:, None].expand(-1, 3, -1)).sum(dim=1)


def jacobian(layer: str, network: nn.Module, inputs: Tensor) -> Tensor:
    """The derivative of each logit by each of the layer's outputs, [N, C, o], by a shift that is added to these."""
    rows = []
    for some in inputs:
        module = network.get_submodule(layer)

        def logits(shift: Tensor, module: nn.Module = module, some: Tensor = some) -> Tensor:
            handle = module.register_forward_hook(lambda layer, args, output: output + shift)
            try:
                return network(some[None])[0]
            finally:
                handle.remove()

        shift = torch.zeros(module.out_features, dtype=torch.float64)
        rows.append(torch.autograd.functional.jacobian(logits, shift))
    return torch.stack(rows)


@pytest.mark.parametrize(("place", "extra"), PLACES)
@pytest.mark.parametrize("bias", [True, False])
def test_keys_and_derivatives(place: str, extra: bool, bias: bool):
    network, x = small_network(extra=extra), vectors(6)
    split = SplitNetwork(network, place if bias else f"{place}.weight")
    layer = LinearLayer(split)
    assert (layer.name, layer.has_bias) == (place, bias)
    features = split.prefix(x)
    keys, logits, derivatives = layer.derivatives(split.suffix, split.params, features)
    read = features_of(place, network, x)
    assert torch.equal(keys, with_one(read) if bias else read)
    assert torch.equal(layer.keys(split.suffix, split.params, features), keys)
    assert layer.key_size == keys.shape[1]
    with torch.no_grad():
        assert torch.equal(logits, network(x))
    assert len(derivatives) == (1 if place in ("fc", "fc.classifier") else 6)
    expected = jacobian(place, network, x)
    torch.testing.assert_close(derivatives.expand_as(expected), expected, rtol=1e-12, atol=1e-14)
    assert not network.get_submodule(place)._forward_hooks
    assert not network.get_submodule(place)._forward_pre_hooks


def test_a_layer_without_bias():
    network = small_network(bias=False)
    split = SplitNetwork(network, "fc")
    layer = LinearLayer(split)
    keys, _, _ = layer.derivatives(split.suffix, split.params, split.prefix(vectors(3)))
    assert torch.equal(keys, features_of("fc", network, vectors(3)))
    matrix = layer.matrix(split.params)
    assert torch.equal(matrix, network.fc.weight)
    matrix.zero_()
    assert network.fc.weight.any(), "the matrix is not the network's own memory"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_there_and_back(dtype: torch.dtype):
    network = small_network(dtype=dtype)
    split = SplitNetwork(network, "hidden")
    layer = LinearLayer(split)
    matrix = layer.matrix(split.params)
    assert matrix.dtype == torch.float64
    assert matrix.shape == (7, 12)
    params = layer.params(matrix, split.params)
    assert {name: param.dtype for name, param in params.items()} == dict.fromkeys(split.names, dtype)
    for name, param in params.items():
        assert torch.equal(param, split.params[name])
        assert param.data_ptr() != split.params[name].data_ptr()
    x = vectors(4, dtype=dtype)
    keys = layer.keys(split.suffix, split.params, split.prefix(x))
    torch.testing.assert_close(
        (keys @ matrix.T).to(dtype), network.hidden(network.bend(network.first(x))).detach(), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("place", ["fc", "hidden"])
@pytest.mark.parametrize("bias", [True, False])
def test_second_moment(place: str, bias: bool):
    network = small_network()
    site = site_of(network, place if bias else f"{place}.weight")
    moment = LinearLayer(site.split).second_moment(site, 1000)
    assert moment.count == 150
    torch.testing.assert_close(moment.mean, moment_of(place, network, bias), rtol=1e-12, atol=1e-14)


def test_an_editor_and_its_layer_are_copied_apart():
    """A deep copy of the network has a layer of its own."""
    split = SplitNetwork(small_network(), "fc")
    other = LinearLayer(copy.deepcopy(split))
    assert other._layer is not split.network.fc


@pytest.mark.parametrize(
    ("network", "patterns", "said"),
    [
        (small_network(), ["fc", "hidden"], "one linear layer, but the editable layers are hidden.weight, hidden.bias"),
        (small_network(), ["fc.bias"], "the editable layers are fc.bias: name one linear layer"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)), ["0"], "the editable layers are 0.weight"),
    ],
)
def test_places_that_are_not_one_linear_layer(network: nn.Module, patterns: list[str], said: str):
    with pytest.raises(UserError, match=re.escape(said)):
        LinearLayer(SplitNetwork(network, patterns))


@pytest.mark.parametrize(
    ("twice", "shapes"), [(False, "[[2, 3, 5]]"), (True, "[[2, 5], [2, 5]]")], ids=["tokens", "twice"]
)
def test_layers_that_read_more_than_one_vector(twice: bool, shapes: str):
    split = SplitNetwork(Tokens(twice).eval(), "all")
    layer = LinearLayer(split)
    with pytest.raises(UserError, match=rf"'layer' must read one vector .* of 2 images it reads {re.escape(shapes)}"):
        layer.keys(split.suffix, split.params, split.prefix(vectors(2, dtype=torch.float32)))


def test_values_that_are_not_finite_are_named():
    network, x = small_network(), vectors(5)
    split = SplitNetwork(network, "fc")
    x[1, 2], x[3, 0] = torch.nan, torch.nan
    said = r"what 'fc' reads is NaN or infinite for 2 of 5 samples \(number 1, 3\)"
    with pytest.raises(UserError, match=said):
        LinearLayer(split).derivatives(split.suffix, split.params, split.prefix(x))
    with pytest.raises(UserError, match=said):
        LinearLayer(split).keys(split.suffix, split.params, split.prefix(x))


def test_logits_that_are_not_finite():
    network = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, CLASSES)).double().eval()
    split = SplitNetwork(network, "0")
    params = {name: torch.full_like(param, 1e200) for name, param in split.params.items()}
    nn.init.constant_(network[1].weight, 1e200)
    with pytest.raises(UserError, match="the network's output is NaN or infinite for 2 of 2 samples"):
        LinearLayer(split).derivatives(split.suffix, params, split.prefix(vectors(2).abs()))
