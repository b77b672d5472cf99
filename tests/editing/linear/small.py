"""Small networks on vectors, places in them, and edits that give other labels than those that are predicted."""

from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from editable.editing import EditSite
from editable.models import SplitNetwork, add_extra_layer

INPUTS, HIDDEN, CLASSES = 5, 7, 4


def vectors(number: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(number, INPUTS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def small_network(bias: bool = True, extra: bool = False, dtype: torch.dtype = torch.float64) -> nn.Module:
    """5 → 11 → 7 → 4 values, not linear behind ``hidden``; ``extra``: a layer of 6 hidden values before ``fc``."""
    torch.manual_seed(0)
    layers = OrderedDict(
        first=nn.Linear(INPUTS, 11),
        bend=nn.Tanh(),
        hidden=nn.Linear(11, HIDDEN, bias=bias),
        bend_more=nn.LeakyReLU(0.3),
        fc=nn.Linear(HIDDEN, CLASSES, bias=bias),
    )
    nn.init.normal_(layers["fc"].weight)  # every class is within reach
    network = nn.Sequential(layers).eval().to(dtype)
    return add_extra_layer(network, hidden=6) if extra else network


def references(number: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Two batches, of at most 150 vectors in all."""
    images = vectors(150, seed=2)[:number]
    for part in images.tensor_split(2):
        yield part, torch.zeros(len(part), dtype=torch.int64)


def site_of(network: nn.Module, *patterns: str) -> EditSite:
    return EditSite(SplitNetwork(network, list(patterns)), references)


def other_labels(network: nn.Module, inputs: Tensor, seed: int = 3) -> Tensor:
    """Labels that are not predicted."""
    with torch.no_grad():
        predicted = network(inputs).argmax(dim=1)
    shift = torch.randint(1, CLASSES, (len(inputs),), generator=torch.Generator().manual_seed(seed))
    return (predicted + shift) % CLASSES


def features_of(layer: str, network: nn.Module, inputs: Tensor) -> Tensor:
    """What a layer reads, by a plain hook."""
    read = []
    handle = network.get_submodule(layer).register_forward_hook(lambda module, args, output: read.append(args[0]))
    with torch.no_grad():
        network(inputs)
    handle.remove()
    return read[0]


def with_one(keys: Tensor) -> Tensor:
    return torch.cat([keys, torch.ones(len(keys), 1, dtype=keys.dtype)], dim=1)


def moment_of(layer: str, network: nn.Module, bias: bool = True) -> Tensor:
    """Σ over the references, one vector after the other."""
    keys = features_of(layer, network, vectors(150, seed=2))
    total = torch.zeros(keys.shape[1] + bias, keys.shape[1] + bias, dtype=torch.float64)
    for key in with_one(keys) if bias else keys:
        total += torch.outer(key, key)
    return total / len(keys)


def regularised(moment: Tensor, epsilon: float) -> Tensor:
    return moment + epsilon * moment.trace() / len(moment) * torch.eye(len(moment), dtype=torch.float64)


def change_of(layer: str, network: nn.Module, params: dict[str, Tensor]) -> Tensor:
    """Δ of weight and bias, as one matrix."""
    own = network.get_submodule(layer)
    change = params[f"{layer}.weight"] - own.weight.detach()
    if f"{layer}.bias" not in params:
        return change
    return torch.cat([change, (params[f"{layer}.bias"] - own.bias.detach())[:, None]], dim=1)
