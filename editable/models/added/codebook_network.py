"""A network with a codebook behind its logits, which reads what goes into some of the network's layers."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import NamedTuple

import torch
from torch import Tensor, nn

from editable.errors import UserError
from editable.models.added.classifier import find_classifier
from editable.models.added.codebook import Codebook
from editable.models.added.tapping import run_tapped, tapping
from editable.models.logits import logits_of
from editable.models.split.modes import evaluation_mode
from editable.models.weights import load_weights

__all__ = ["CodebookNetwork", "PositionPool", "add_codebook"]

WHAT = "the codebook"
SIDES = (16, 28, 32, 64, 128, 224, 256, 299)
"""Of images that are tried to find out what layers read."""


class PositionPool(nn.Module):
    """Mean and standard deviation over positions; a vector is taken as it is.

    Args:
        positions: The dimensions of positions: (2, 3) for maps [N, C, H, W], (1,) for tokens [N, T, C], none for
            vectors [N, C].
    """

    def __init__(self, positions: Sequence[int] = ()) -> None:
        super().__init__()
        self.positions = tuple(positions)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, 2C], or [N, C] of vectors."""
        if not self.positions:
            return x
        variance = x.var(dim=self.positions, correction=0)
        return torch.cat([x.mean(dim=self.positions), (variance + 1e-12).sqrt()], dim=-1)  # no infinite derivative at 0

    def extra_repr(self) -> str:
        """Show the dimensions."""
        return f"positions={self.positions}"


class CodebookNetwork(nn.Module):
    """A classifier with a codebook behind its logits; see :func:`add_codebook`.

    The classifier runs as it did; the codebook taps what goes into its layers. Networks that ``torch.fx`` can trace
    stay traceable, and split at ``codebook`` all but its rows is in the prefix.

    Args:
        base: The classifier, from images [N, C, H, W] to logits [N, K].
        layers: The names of the layers in ``base`` whose input is read.
        pools: As many.
        codebook: For the features of all pools, and K classes.

    Attributes:
        base: The classifier.
        codebook: The codebook.
    """

    def __init__(
        self, base: nn.Module, layers: Sequence[str], pools: Sequence[PositionPool], codebook: Codebook
    ) -> None:
        super().__init__()
        self.base = base
        self.layers = tuple(layers)
        self.pools = nn.ModuleList(pools)
        self.codebook = codebook

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits [N, K]."""
        logits, features = run_tapped(self.base, x, list(zip(self.layers, self.pools, strict=True)), WHAT)
        return self.codebook(torch.cat(features, dim=-1), logits)


def add_codebook(
    network: nn.Module,
    layers: str | Sequence[str] | None = None,
    margin: float = 1.0,
    weights: str | None = None,
) -> CodebookNetwork:
    """Put a codebook behind a network's logits; it computes what it did before.

    The codebook reads what goes into layers: vectors as they are, maps [N, C, H, W] and tokens [N, T, C] by mean and
    standard deviation over positions. The pattern ``codebook`` names its rows to `select_parameters`. The state dict
    has the network's tensors under ``base.`` and the codebook's under ``codebook.``; it loads, with as many rows as it
    has, into what this function returns for the same network and layers.

    Args:
        network: The classifier, from images [N, C, H, W] to logits [N, K], by its class, or by a function that makes
            one; it is shared, not copied.
        layers: The names of the layers whose input is read, each used at one place; by default the last linear layer.
        margin: By how much a raised label leads all others, in logits.
        weights: Weights that the network had without the codebook, a ``.safetensors`` file or a checkpoint of tensors.

    Returns:
        The network with an empty codebook.

    Raises:
        UserError: If there is a codebook already, a layer is unknown, or what it reads or the last linear layer cannot
            be found; in a forward pass, if a layer is used at several places or nowhere.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AvgPool2d(6), nn.Flatten(), nn.Linear(8, 4))
        >>> add_codebook(network)(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 4])
    """
    if any(isinstance(module, Codebook) for module in network.modules()):
        raise UserError(f"{type(network).__name__} has a codebook already: one is enough")
    if weights is not None:
        load_weights(network, weights)
    if layers is None:
        name, classifier = find_classifier(network, "a codebook")
        found = Readings(classifier.out_features, [Reading(name, classifier.in_features, ())])
    else:
        found = _look(network, [layers] if isinstance(layers, str) else list(layers))
    codebook = Codebook([reading.features for reading in found.layers], found.classes, margin)
    like = next((param for param in network.parameters() if param.is_floating_point()), torch.empty(0))
    names = [reading.name for reading in found.layers]
    pools = [PositionPool(reading.positions) for reading in found.layers]
    larger = CodebookNetwork(network, names, pools, codebook.to(like))
    for module in (larger.pools, larger.codebook):
        module.train(network.training)
    larger.training = network.training
    return larger


class Reading(NamedTuple):
    """What a layer reads: how many values once positions are pooled, and which dimensions they are."""

    name: str
    features: int
    positions: tuple[int, ...]


class Readings(NamedTuple):
    """What layers read, and how many classes a network has."""

    classes: int
    layers: list[Reading]


def _look(network: nn.Module, names: Sequence[str]) -> Readings:
    """Run a network on zeros to see what layers read."""
    modules = {name: module for name, module in network.named_modules() if name}
    if not names or len(set(names)) < len(names):
        raise UserError(f"layers names the layers whose input is read, each once, such as [fc], got {list(names)}")
    for name in names:
        if name not in modules:
            near = get_close_matches(name, modules, n=5) or list(modules)[-5:]
            raise UserError(
                f"a codebook reads what goes into a layer, such as {', '.join(near)}, but {type(network).__name__} has "
                f"no '{name}'"
            )
    classes, read = None, None
    with torch.no_grad(), evaluation_mode(network):
        for x in _examples(network):
            with tapping([(modules[name], nn.Identity()) for name in names]) as found, suppress(Exception):
                classes = logits_of(network(x)).shape[-1]  # raises whatever it likes at a size that is not its own
            if all(found):
                read = [_reading(name, modules[name], values[0]) for name, values in zip(names, found, strict=True)]
            if classes is not None:
                break
    if read is None:
        raise UserError(
            f"cannot find out what goes into {', '.join(names)}: {type(network).__name__} does not come to them with "
            "images of any usual size, so name others, or leave layers out for its last linear layer"
        )
    return Readings(find_classifier(network, "a codebook")[1].out_features if classes is None else classes, read)


def _examples(network: nn.Module) -> Iterator[Tensor]:
    """Yield what the first layer of a network may read."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            yield module.weight.new_zeros(2, module.in_features)
            return
        if isinstance(module, nn.Conv2d):
            for side in SIDES:
                yield module.weight.new_zeros(2, module.in_channels, side, side)
            return


def _reading(name: str, layer: nn.Module, x: Tensor) -> Reading:
    if x.ndim not in (2, 3, 4):
        raise UserError(
            f"a codebook reads vectors [N, C], tokens [N, T, C] or maps [N, C, H, W], but '{name}' reads shape "
            f"{list(x.shape)}"
        )
    last = x.ndim == 3 or isinstance(layer, nn.Linear | nn.LayerNorm)
    positions = tuple(range(1, x.ndim - 1) if last else range(2, x.ndim))
    channels = layer.in_features if isinstance(layer, nn.Linear) else x.shape[-1 if last else 1]
    return Reading(name, 2 * channels if positions else channels, positions)
